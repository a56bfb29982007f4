"""Being woken when something happened to a run in another process, instead of looking again and again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

WISHES = "wishes"
"""The topic of wishes, and of runs that were given up: an owner looks after them."""


class News:
    """Who wants to be woken, and by what: a run's id, or WISHES.

    Attributes:
        is_live: news come by themselves at present. They may be lost all the same: look now and then.
    """

    def __init__(self) -> None:
        self.is_live = False
        self._bells: dict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def listen(self, topic: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever there may be something new; clear it before you look."""
        bell = asyncio.Event()
        self._bells[topic].add(bell)
        try:
            yield bell
        finally:
            self._bells[topic].discard(bell)
            if not self._bells[topic]:
                del self._bells[topic]

    def ring(self, topics: Iterable[str]) -> None:
        """Wake those who listen to these topics."""
        for topic in topics:
            for bell in self._bells.get(topic, ()):
                bell.set()

    def ring_all(self) -> None:
        """Wake everybody: something may have been missed."""
        self.ring(list(self._bells))


@runtime_checkable
class Shared(Protocol):
    """What a store may be besides: one for many machines, which tells what happens. Others are asked."""

    news: News


def get_news(store: object) -> News:
    """Return a store's news, or some that never come."""
    return store.news if isinstance(store, Shared) else News()
