"""How much a backend may be given at once: jobs in flight and submissions per time, shared fairly."""

from __future__ import annotations

from collections import OrderedDict, deque
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
    """A queue in which every key gets its turn, however many wait under another."""

    _queues: OrderedDict[str, deque[T]] = field(default_factory=OrderedDict)

    def put(self, key: str, item: T) -> None:
        """Queue an item under a key."""
        self._queues.setdefault(key, deque()).append(item)

    def take(self) -> T | None:
        """Take the next item: the first of the key whose turn it is."""
        if not self._queues:
            return None
        key, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        del self._queues[key]
        if queue:
            self._queues[key] = queue  # behind all others
        return item

    def remove(self, key: str, item: T) -> None:
        """Take an item out that waits no longer."""
        queue = self._queues.get(key)
        if queue is not None and item in queue:
            queue.remove(item)
            if not queue:
                del self._queues[key]

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())
