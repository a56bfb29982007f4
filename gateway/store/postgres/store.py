"""A store that several processes share, on as many machines as there are: PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Sequence
from datetime import datetime

from gateway.policy.budget import Spend
from gateway.policy.learning import Outcome
from gateway.store.archive import Archive
from gateway.store.ledger import Ledger
from gateway.store.news import WISHES, News
from gateway.store.postgres import queries
from gateway.store.postgres.address import Address
from gateway.store.postgres.archive import PostgresArchive, PostgresLedger
from gateway.store.postgres.lane import Lane
from gateway.store.postgres.listener import Listener
from gateway.store.postgres.readers import Readers
from gateway.store.postgres.schema import migrate
from gateway.store.postgres.shelf import PostgresShelf
from gateway.store.protocol import Claimed, RunFilter, Scope, Wish
from gateway.store.shelf import Shelf
from gateway.task import Event, Run


class PostgresStore:
    """Runs in a database. Use it in the event loop in which it was opened.

    Attributes:
        address: where the database is; it shows no password.
        news: wakes those who wait for what other processes do.
    """

    def __init__(self, url: str) -> None:
        """Make it without I/O. Raises ConfigError for what is no address."""
        self.address = Address(url)
        self.news = News()
        self._lane = Lane(self.address)
        self._readers = Readers(self.address)
        self._listener = Listener(self.address, self.news)
        self.ledger: Ledger = PostgresLedger(self._lane, self._readers)
        self.archive: Archive = PostgresArchive(self._lane, self._readers)
        self.shelf: Shelf = PostgresShelf(self._lane, self._readers)
        self._open = False

    async def open(self) -> None:
        """See Store."""
        if not self._open:
            channel = await self.address.keep_trying(lambda: _prepare(self.address))
            self._readers.start()
            self._lane.start(channel)
            self._listener.start(channel)
            self._open = True

    def create(self, run: Run, *, owner: str) -> Awaitable[int]:
        """See Store."""
        return self._lane.intake.create(run, owner)

    def save(
        self,
        run: Run,
        *,
        fence: int,
        events: Sequence[Event] = (),
        spends: Sequence[Spend] = (),
        soon: bool = True,
    ) -> Awaitable[None]:
        """See Store."""
        return self._lane.intake.save(run, fence, events, spends, soon=soon)

    async def get(self, run_id: str) -> Run:
        """See Store."""
        return await self._readers.read(lambda db: queries.fetch_run(db, run_id))

    async def list_runs(self, which: RunFilter) -> list[Run]:
        """See Store."""
        return await self._readers.read(lambda db: queries.fetch_runs(db, which))

    async def list_events(self, run_id: str, *, after: int = 0) -> list[Event]:
        """See Store."""
        return await self._readers.read(lambda db: queries.fetch_events(db, run_id, after))

    async def wish(self, wish: Wish) -> Run:
        """See Store."""
        run: Run = await self._lane.act(lambda db: queries.note_wish(db, wish), WISHES)
        return run

    async def list_wishes(self, owner: str) -> list[Wish]:
        """See Store."""
        return await self._readers.read(lambda db: queries.fetch_wishes(db, owner))

    async def claim(
        self, owner: str, scope: Scope, *, now: datetime, limit: int, dead: Sequence[str] = ()
    ) -> list[Claimed]:
        """See Store."""
        if await self._readers.read(lambda db: queries.find_free(db, owner, now, dead)) is None:
            return []
        claimed: list[Claimed] = await self._lane.act(
            lambda db: queries.claim_runs(db, owner, scope, now, limit, dead)
        )
        return claimed

    async def beat(self, owner: str, *, until: datetime) -> None:
        """See Store."""
        await self._lane.act(lambda db: queries.note_beat(db, owner, until))

    async def list_owners(self) -> list[str]:
        """See Store."""
        return await self._readers.read(queries.fetch_owners)

    async def release(self, owner: str) -> None:
        """See Store."""
        await self._lane.act(lambda db: queries.release_runs(db, owner), WISHES)

    async def list_outcomes(self, since: datetime) -> list[tuple[str, str, Outcome]]:
        """See Store."""
        return await self._readers.read(lambda db: queries.fetch_outcomes(db, since))

    async def aclose(self) -> None:
        """See Store."""
        self._open = False
        await self._listener.stop()
        await self._lane.stop()
        await self._readers.stop()


async def _prepare(address: Address) -> str:
    """Make the tables ready; returns the channel on which the users of these tables tell each other."""
    async with await address.connect() as connection:
        await migrate(connection, address)
        await connection.execute("DELETE FROM writers WHERE at < now() - interval '1 day'")
        row = await (await connection.execute("SELECT current_schema()")).fetchone()
    return f"gateway_{hashlib.sha256(str(row).encode()).hexdigest()[:16]}"
