"""The budgets of API keys: they lie in the store with the keys, so whoever opens it keeps to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.clock import Clock
from gateway.engine.waits import repeat
from gateway.policy.budget import Budget, Per
from gateway.store.protocol import Store
from gateway.store.shelf import Note
from gateway.types import Money
from gateway.value import Value

KIND = "api_key"
_FOR_EVER = datetime.max.replace(tzinfo=UTC)
LEARNT_EVERY_SECONDS = 5.0
"""How old what a process knows of them may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBudget(Value):
    """What runs of a key may cost: "5 USD/day"."""

    limit: Money
    per: Per = "day"

    def __str__(self) -> str:
        return f"{self.limit}/{self.per}"


def parse_budget(text: str) -> KeyBudget:
    """Read "5 USD/day", "5 USD/total" or "0.1 USD/run". Raises ValueError."""
    amount, slash, per = text.rpartition("/")
    if not slash or per.strip() not in ("run", "day", "total"):
        raise ValueError(
            f'"{text}" is not a budget; write it as "5 USD/day", "100 USD/total" or "0.1 USD/run"'
        )
    return KeyBudget(limit=Money.parse(amount), per=per.strip())  # type: ignore[arg-type]  # checked above


def make_budgets(notes: Iterable[Note], currency: str) -> tuple[Budget, ...]:
    """Return the budgets of keys; one in another currency than this allows nothing.

    Of several keys of a name those of the one that opens something hold, or else of the one that did last:
    runs that it brought in may still be waiting.
    """
    newest: dict[str, _Key] = {}
    for key in map(_read, notes):
        if key.name not in newest or newest[key.name].until < key.until:
            newest[key.name] = key
    return tuple(
        Budget(
            limit=one.limit if one.limit.asset == currency else Money(0, currency), per=one.per, key=key.name
        )
        for key in newest.values()
        for one in key.budgets
    )


@dataclass(frozen=True, slots=True)
class _Key:
    name: str
    until: datetime
    budgets: Sequence[KeyBudget]


def _read(note: Note) -> _Key:
    from pydantic_core import from_json

    key = from_json(note.body)
    revoked_at = key.get("revoked_at")
    until = _FOR_EVER if revoked_at is None else datetime.fromisoformat(revoked_at)
    return _Key(key["name"], until, [KeyBudget.model_validate(one) for one in key.get("budgets", [])])


class KeyBudgets:
    """The budgets of all keys of a store, read anew every few seconds."""

    def __init__(self, store: Store, clock: Clock, currency: str) -> None:
        self._store, self._clock, self._currency = store, clock, currency
        self._known: tuple[Budget, ...] = ()
        self._learning: asyncio.Task[None] | None = None

    def get(self) -> tuple[Budget, ...]:
        """Return what was read last."""
        return self._known

    async def learn(self) -> None:
        """Read them. Raises StoreError."""
        self._known = make_budgets(await self._store.shelf.list_notes(KIND), self._currency)

    async def start(self) -> None:
        """Read them, now and until `stop`. Raises StoreError."""
        await self.learn()
        if self._learning is None:
            self._learning = asyncio.create_task(self._keep_learning())

    async def stop(self) -> None:
        """Stop reading."""
        learning, self._learning = self._learning, None
        if learning is not None:
            learning.cancel()
            await asyncio.gather(learning, return_exceptions=True)

    async def _keep_learning(self) -> None:
        async def learn_later() -> None:
            await self._clock.sleep(LEARNT_EVERY_SECONDS)
            await self.learn()

        await repeat("reading the budgets of keys", learn_later, self._clock)
