"""API keys: made, looked up, limited. Only hashes are kept; a key itself is shown once, when it is made."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.config import parse_rate
from gateway.engine.key_budgets import KIND, KeyBudget
from gateway.errors import ConfigError, GatewayError
from gateway.server.callers import ANYBODY, Caller, KeyScope
from gateway.server.problems import NO_KEY, TOO_MANY, Refusal
from gateway.store.shelf import Note
from gateway.value import Value

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.store.shelf import Shelf

LEARNT_EVERY_SECONDS = 2.0
"""How old what a process knows of the keys may be: a revoked one opens nothing any more after that."""

_log = logging.getLogger("gateway.server")
_PREFIX = "gw"
_FORM = re.compile(r"gw_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_APART_SECONDS = 0.2
_NAME_MOST = 100
_DUMMY = hashlib.sha256(b"").hexdigest()
_CHALLENGE = ((b"www-authenticate", b'Bearer realm="gateway"'),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(Value):
    """One key as it is kept.

    Attributes:
        id: what the key begins with, to find it.
        name: whose it is; runs and budgets go by it. One at a time has a name.
        hash: SHA-256 of the secret half, in hex. It has 256 random bits, so no slower hash is needed.
        scopes: what it may do.
        budgets: caps on what its runs cost.
        rate: "100/m": so many requests in a time.
        created_at: when it was made.
        revoked_at: since when it opens nothing.
    """

    id: str
    name: str
    hash: str
    scopes: tuple[KeyScope, ...]
    created_at: datetime
    budgets: tuple[KeyBudget, ...] = ()
    rate: str | None = None
    revoked_at: datetime | None = None

    def make_note(self) -> Note:
        """Return it for the shelf."""
        return Note(kind=KIND, id=self.id, body=self.model_dump_json())


async def create_key(
    shelf: Shelf,
    name: str,
    *,
    now: datetime,
    scopes: Sequence[KeyScope] = (KeyScope.READ, KeyScope.RUN),
    budgets: Sequence[KeyBudget] = (),
    rate: str | None = None,
) -> str:
    """Make a key and return it; it can't be shown again.

    Raises:
        ConfigError: the name is empty or taken, or the rate is none.
    """
    if not name.strip() or len(name) > _NAME_MOST or "/" in name or not name.isprintable():
        raise ConfigError(f"a key's name has 1 to {_NAME_MOST} printable characters and no slash")
    if any(key.name == name and key.revoked_at is None for key in await list_keys(shelf)):
        raise ConfigError(f"there is a key {name!r} already; `gateway keys revoke` ends it")
    if rate is not None:
        try:
            parse_rate(rate)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = ApiKey(
        id=key_id,
        name=name,
        hash=_hash(secret),
        scopes=tuple(scopes),
        budgets=tuple(budgets),
        rate=rate,
        created_at=now,
    )
    await shelf.put(key.make_note())
    return f"{_PREFIX}_{key_id}_{secret}"


async def list_keys(shelf: Shelf) -> list[ApiKey]:
    """Return every key, revoked ones included, the oldest first."""
    keys = [ApiKey.model_validate_json(note.body) for note in await shelf.list_notes(KIND)]
    return sorted(keys, key=lambda key: key.created_at)


async def revoke_key(shelf: Shelf, name: str, *, now: datetime) -> None:
    """Let a key open nothing any more. Raises ConfigError if there is none of that name or id."""
    from dataclasses import replace

    found = [key for key in await list_keys(shelf) if name in (key.name, key.id) and key.revoked_at is None]
    if not found:
        raise ConfigError(f"there is no key {name!r} that opens anything")
    for key in found:
        await shelf.put(replace(key, revoked_at=now).make_note())


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(slots=True)
class Bucket:
    """A rate as a bucket of tokens that fills up again: a burst of the whole number, then its pace."""

    most: float
    per_second: float
    left: float
    at: float

    def take(self, now: float) -> float:
        """Take one; returns 0, or after how many seconds there is one again."""
        self.left = min(self.most, self.left + (now - self.at) * self.per_second)
        self.at = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) / self.per_second


class KeyBook:
    """The keys as a server knows them, read anew every few seconds.

    Attributes:
        is_open: there has never been a key: whoever reaches the server may do everything.
    """

    def __init__(self, clock: Clock, *, workers: int = 1) -> None:
        """Make it empty; `workers` is how many processes share a rate."""
        self._clock, self._workers = clock, workers
        self._keys: Mapping[str, tuple[ApiKey, Caller]] = {}
        self._buckets: dict[str, Bucket] = {}
        self.is_open = True

    def learn(self, keys: Sequence[ApiKey]) -> None:
        """Take in what the store has."""
        live = [key for key in keys if key.revoked_at is None]
        self._keys = {key.id: (key, Caller(key.name, frozenset(key.scopes))) for key in live}
        self.is_open = not keys
        self._buckets = {one: bucket for one, bucket in self._buckets.items() if one in self._keys}

    def knows(self, keys: Sequence[ApiKey]) -> bool:
        """Say whether those of them that open something are known."""
        return all(key.id in self._keys for key in keys if key.revoked_at is None)

    def has(self, text: str) -> bool:
        """Say whether a key of this id is known; of what is no key at all too: there is nothing to learn."""
        form = _FORM.fullmatch(text)
        return form is None or form[1] in self._keys

    def find_caller(self, text: str | None) -> Caller:
        """Return whose key this is; counts it against the key's rate.

        Raises:
            Refusal: there are keys, and this is none of them; or its rate is used up.
        """
        if self.is_open:
            return ANYBODY
        if not text:
            raise Refusal(NO_KEY, "send an API key: Authorization: Bearer gw_...", headers=_CHALLENGE)
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        known = self._keys.get(key_id)
        fits = hmac.compare_digest(_hash(secret), known[0].hash if known else _DUMMY)
        if known is None or not fits or prefix != _PREFIX:
            raise Refusal(NO_KEY, "this API key opens nothing", headers=_CHALLENGE)
        self._count(known[0])
        return known[1]

    def _count(self, key: ApiKey) -> None:
        if key.rate is None:
            return
        now, bucket = self._clock.monotonic(), self._buckets.get(key.id)
        if bucket is None:
            count, seconds = parse_rate(key.rate)
            most = max(1.0, count / self._workers)
            bucket = self._buckets[key.id] = Bucket(most, count / self._workers / seconds, most, now)
        wait = bucket.take(now)
        if wait:
            retry = str(max(1, round(wait + 0.5))).encode()
            raise Refusal(
                TOO_MANY, f"the key {key.name!r} may send {key.rate}", headers=[(b"retry-after", retry)]
            )


class Learning:
    """Keeps what a server knows of its keys as the store has it."""

    def __init__(
        self,
        keys: KeyBook,
        get_shelf: Callable[[], Shelf],
        clock: Clock,
        learn_budgets: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make it; `get_shelf` returns the shelf of now: a changed configuration closes the one of before.

        `learn_budgets` has the budgets of new keys learnt before anything opens to them.
        """
        self._keys, self._get_shelf, self._clock = keys, get_shelf, clock
        self._learn_budgets = learn_budgets
        self._reading: asyncio.Future[None] | None = None
        self._read_at = -math.inf

    async def learn(self) -> None:
        """Read the keys. Raises StoreError."""
        keys = await list_keys(self._get_shelf())
        if self._learn_budgets is not None and not self._keys.knows(keys):
            await self._learn_budgets()
        self._keys.learn(keys)

    async def keep_learning(self) -> None:
        """Read the keys anew, every two seconds, until cancelled."""
        while True:
            await self._clock.sleep(LEARNT_EVERY_SECONDS)
            try:
                await self.learn()
            except GatewayError:
                _log.exception("the keys can't be read; those of before stay")

    async def find_caller(self, text: str | None) -> Caller:
        """Return whose key this is, also if it was made a moment ago. Raises as KeyBook.find_caller."""
        if text and not self._keys.has(text):
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._learn_now())
            await asyncio.shield(self._reading)
        return self._keys.find_caller(text)

    async def _learn_now(self) -> None:
        """Read the keys for all who ask until it begins; not more often than is good for the store."""
        await self._clock.sleep(max(0.0, self._read_at + _APART_SECONDS - self._clock.monotonic()))
        self._reading, self._read_at = None, self._clock.monotonic()
        await self.learn()
