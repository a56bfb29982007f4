"""Quotes that were given out: on the store's shelf, so that a restart does not forget what was approved."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.clock import Clock
from gateway.errors import InvalidInput
from gateway.limits import Limits
from gateway.store.shelf import Note, Shelf
from gateway.task import Task
from gateway.types import JSON, Money

LASTS = timedelta(minutes=15)
"""How long a quote can be approved."""
_KEPT = timedelta(days=1)
_KIND = "quote"
_FORGOTTEN_AT_ONCE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One backend's price for one task.

    Attributes:
        id: what `run` takes.
        upper: the most it may cost; None if the backend is free.
        expires_at: until when a run can begin.
    """

    id: str
    model: str
    input: JSON
    backend: str
    upper: Money | None
    expires_at: datetime

    def make_task(self) -> Task:
        """Return the task with its bounds: one attempt, for at most the price, which is nothing if free."""
        most = Money(0, "USD") if self.upper is None else self.upper
        limits = Limits(max_cost=most, max_attempts=1, on_failed="stop", on_doubt="wait", hedge=1)
        return Task(model=self.model, input=self.input, limits=limits, labels={"quote": self.id})

    @property
    def key(self) -> str:
        """Return the idempotency key of its run."""
        return f"{_KIND}:{self.id}"


class Offers:
    """The offers on a shelf."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf, self._clock = shelf, clock

    async def make(self, model: str, input: JSON, backend: str, upper: Money | None) -> Offer:
        """Write a new offer down."""
        now = self._clock.now()
        await self._forget_old(now)
        offer = Offer(
            id=secrets.token_hex(8),
            model=model,
            input=input,
            backend=backend,
            upper=upper,
            expires_at=now + LASTS,
        )
        body: dict[str, JSON] = {
            "model": model,
            "input": input,
            "backend": backend,
            "upper": None if upper is None else str(upper),
            "expires_at": offer.expires_at.isoformat(),
        }
        await self._shelf.put(Note(kind=f"{_KIND}/{offer.id}", id=offer.id, body=json.dumps(body).encode()))
        await self._shelf.put(Note(kind=_KIND, id=offer.id, body=b"{}", due_at=now + _KEPT))
        return offer

    async def get(self, quote_id: str) -> Offer:
        """Return an offer, also one that has expired. Raises InvalidInput."""
        for note in await self._shelf.list_notes(f"{_KIND}/{quote_id}"):
            body: dict[str, Any] = json.loads(note.body)
            return Offer(
                id=note.id,
                model=body["model"],
                input=body["input"],
                backend=body["backend"],
                upper=None if body["upper"] is None else Money.parse(body["upper"]),
                expires_at=datetime.fromisoformat(body["expires_at"]),
            )
        raise InvalidInput(f"there is no quote {quote_id[:40]!r}: ask for one with the tool quote")

    async def _forget_old(self, now: datetime) -> None:
        for note in await self._shelf.claim(_KIND, now=now, until=now + _KEPT, limit=_FORGOTTEN_AT_ONCE):
            await self._shelf.remove(f"{_KIND}/{note.id}", note.id)
            await self._shelf.remove(_KIND, note.id)
