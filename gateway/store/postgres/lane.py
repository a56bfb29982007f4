"""One connection that everything is written through: group commit, and certainty about every commit.

A commit whose answer is lost is never guessed at. Each batch has a number, which it writes into its writer's
own row; on a new connection that row is locked (so the old transaction is over) and read, and says whether
the batch is in the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import psycopg

from gateway.errors import StoreError
from gateway.store.changes import Change
from gateway.store.intake import Act, Entry, Intake, Pile, inherit
from gateway.store.postgres.address import Address, Connection, cut_off, is_passing
from gateway.store.postgres.batch import Batch, Job

_log = logging.getLogger("gateway")
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
_MOST_BYTES = 1 << 26  # in a transaction: of a gigabyte PostgreSQL takes none, and each has 30 seconds


class Lane:
    """Writes jobs, in batches, in one task of the event loop.

    Attributes:
        writer: the name under which it numbers its batches.
    """

    def __init__(self, address: Address) -> None:
        self.writer = uuid.uuid4().hex
        self._address = address
        self._channel = ""
        self._batches: asyncio.Queue[list[Entry] | None] = asyncio.Queue()
        self._intake: Intake | None = None
        self._connection: Connection | None = None
        self._number = 0
        self._writing: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self, channel: str) -> None:
        """Begin to write; what is committed is told on this channel."""
        self._channel, self._stopping = channel, False
        self._intake = Intake(self._address, self._batches.put_nowait, is_open=True)
        self._writing = asyncio.create_task(self._run(self._intake))

    @property
    def intake(self) -> Intake:
        """Return what takes changes."""
        return self._intake or Intake(self._address, self._batches.put_nowait, is_open=False)

    async def act(self, work: Callable[[Connection], Awaitable[Any]], *topics: str) -> Any:
        """Do something that has statements of its own; return its result once it is committed.

        Raises StoreError, and what the work raises.
        """
        return await self.intake.act(work, *topics)

    async def stop(self) -> None:
        """Write what was put, then close."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        self._stopping = True
        await self.intake.close()
        self._batches.put_nowait(None)
        await writing
        await self._disconnect()

    async def _run(self, intake: Intake) -> None:
        while (batch := await self._batches.get()) is not None:
            try:
                results = await self._write_batch(batch)
            except Exception as error:  # noqa: BLE001  a defect: those who wait must hear of it, and others go on
                failure = StoreError(f"{self._address}: the changes could not be written: {error!r}")
                failure.__cause__ = error
                results = [failure if isinstance(one, Act) else [failure] * len(one.writes) for one in batch]
            intake.settle(batch, results)

    async def _write_batch(self, batch: Sequence[Entry]) -> list[Any]:
        """Return the entries' results; see Intake.settle."""
        jobs = [entry if isinstance(entry, Act) else Change(entry) for entry in batch]
        refused: dict[Job, Any] = {job: job.error for job in jobs if isinstance(job, Change) and job.error}
        good = [job for job in jobs if job not in refused]
        results = dict(refused)
        for part in _part(good):
            results |= zip(part, await self._write(part), strict=True)
        for job, result in results.items():
            if isinstance(job, Change) and isinstance(result, Exception):
                results[job] = await self._write_alone(job.pile, result)
        return [results[job] for job in jobs]

    async def _write_alone(self, pile: Pile, error: Exception) -> list[Any]:
        """Write changes one by one that were refused together."""
        results: list[Any] = []
        for part in pile.split() if len(pile.writes) > 1 else ():
            one = Change(part)
            refused = (inherit(results[-1]) if results else None) or one.error
            results += [refused] if refused else await self._write([one])
        return results or [error]

    async def _write(self, jobs: list[Job]) -> list[Any]:
        """Write jobs together; if the database refuses that, one by one: only what is wrong shall fail."""
        try:
            return await self._write_together(jobs)
        except StoreError as error:
            return [error] * len(jobs)
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            await self._disconnect()
            if len(jobs) == 1:
                failure = self._address.explain(error)
                failure.__cause__ = error
                return [failure]
            return [result for job in jobs for result in await self._write([job])]

    async def _write_together(self, jobs: list[Job]) -> list[Any]:
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            self._number += 1
            batch, asked = Batch(jobs), False
            try:
                connection = self._connection = self._connection or await self._address.connect()
                with cut_off(connection):
                    await batch.decide(connection, self.writer, self._number)
                    asked = True
                    await batch.commit(connection, self._channel)
                return batch.results  # noqa: TRY300  what follows is about errors
            except psycopg.Error as error:
                await self._disconnect()
                if asked and await self._was_committed():
                    return batch.results
                if not is_passing(error):
                    raise
                if time.monotonic() > until:
                    raise self._address.explain(error) from error
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _was_committed(self) -> bool:
        """Find out whether the newest batch is in the database, however long that takes.

        Raises:
            StoreError: the gateway stops, and the database is not back.
        """
        query = "SELECT batch FROM writers WHERE writer = %s FOR UPDATE"
        until: float | None = None
        level = logging.WARNING
        while True:
            try:
                connection = self._connection = self._connection or await self._address.connect()
                with cut_off(connection):
                    row = await (await connection.execute(query, (self.writer,))).fetchone()
            except psycopg.Error as error:
                await self._disconnect()
                _log.log(level, "%s; a commit's answer is lost, asking on", self._address.explain(error))
                level = logging.DEBUG  # once is enough
                until = until or (time.monotonic() + _PATIENCE_SECONDS if self._stopping else None)
                if until is not None and time.monotonic() > until:
                    raise StoreError(
                        f"the store {self._address} is gone, and took with it whether the last writes are"
                        " in it; whoever takes the runs over reads there what is"
                    ) from error
            else:
                return row is not None and row[0] == self._number
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _part(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield the jobs in their order, in as few parts as one transaction each can take."""
    part: list[Job] = []
    size = 0
    for job in jobs:
        here = job.size if isinstance(job, Change) else 0
        if part and size + here > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(job)
        size += here
    if part:
        yield part
