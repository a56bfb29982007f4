"""How much a backend may be given at once: jobs in flight and submissions per time, shared fairly."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is configured for a backend; None means no limit.

    Attributes:
        max_in_flight: jobs that have been submitted and have not ended.
        submissions: so many ...
        per_seconds: ... in so many seconds.
    """

    max_in_flight: int | None = None
    submissions: int | None = None
    per_seconds: float = 60.0


@dataclass(slots=True)
class Turns(Generic[T]):
    """A queue in which every key gets its turn, however many wait under another. Its items are different."""

    _queues: OrderedDict[str, OrderedDict[T, None]] = field(default_factory=OrderedDict)
    _size: int = 0

    def put(self, key: str, item: T) -> None:
        """Queue an item under a key."""
        self._queues.setdefault(key, OrderedDict())[item] = None
        self._size += 1

    def take(self) -> T | None:
        """Take the next item: the first of the key whose turn it is."""
        if not self._queues:
            return None
        key, queue = self._queues.popitem(last=False)
        item, _ = queue.popitem(last=False)
        self._size -= 1
        if queue:
            self._queues[key] = queue  # behind all others
        return item

    def remove(self, key: str, item: T) -> None:
        """Take an item out that waits no longer."""
        queue = self._queues.get(key)
        if queue is not None and item in queue:
            del queue[item]
            self._size -= 1
            if not queue:
                del self._queues[key]

    def __len__(self) -> int:
        return self._size
