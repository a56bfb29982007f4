"""The chain's newest block: asked for once however many want to know it, not taken from a lagging replica."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway.chain.gather import Shared
from gateway.chain.rhythm import Rhythm
from gateway.chain.rpc import Asks, request
from gateway.clock import Clock, SystemClock
from gateway.errors import Misbehaved

_REMEMBERED = 1024
_LONGEST_STEP_SECONDS = 3.0
_STEP_SECONDS = 0.25  # while it is not known when blocks come


@dataclass(frozen=True, slots=True)
class Block:
    """A block's number, hash, its parent's hash, and its time in seconds since the epoch."""

    number: int
    hash: str
    parent: str
    timestamp: int

    @classmethod
    def parse(cls, data: Any) -> Block:
        """Read JSON-RPC's block. Raises Misbehaved."""
        try:
            return cls(
                int(data["number"], 16),
                str(data["hash"]),
                str(data["parentHash"]),
                int(data["timestamp"], 16),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Misbehaved(f"the RPC sent a block that is none ({error!r})") from error


class Heads:
    """Follows the newest block.

    Args:
        rpc: of the chain.
        fresh_for: how long an answer is believed; half a block's time is a good choice.
    """

    def __init__(
        self,
        rpc: Asks,
        *,
        clock: Clock | None = None,
        fresh_for: timedelta = timedelta(milliseconds=250),
    ) -> None:
        self._rpc = rpc
        self._clock = clock or SystemClock()
        self._fresh_seconds = fresh_for.total_seconds()
        self._asked_at_seconds: float | None = None
        self._newest: Block | None = None
        self._hashes: OrderedDict[int, str] = OrderedDict()
        self._asking = Shared(self._ask)
        self._rhythm = Rhythm()

    @property
    def is_due(self) -> bool:
        """Say whether `fetch` would ask now, or wait for who has."""
        asked = self._asked_at_seconds
        return (
            self._asking.is_asking or asked is None or self._clock.monotonic() - asked >= self._fresh_seconds
        )

    async def fetch(self) -> Block:
        """Return the newest block that is known. Raises as `rpc.request`.

        It goes back only when the chain does: an older block of the same chain is a replica that lags.
        """
        if self._newest is not None and not self.is_due:
            return self._newest
        return await self._asking.ask()

    def get_wait(self, at_least: float = 0.0) -> float:
        """Return the seconds until the first new block is expected that comes after so many.

        Blocks that come rarely, or when they like, are asked for every few seconds all the same.
        """
        now = self._clock.monotonic()
        following = self._rhythm.get_next(now + at_least)
        if following is None:
            return max(at_least, _STEP_SECONDS)
        asked = self._asked_at_seconds
        soonest = now if asked is None else asked + self._fresh_seconds
        return min(max(following, soonest) - now, at_least + _LONGEST_STEP_SECONDS)

    async def _ask(self) -> Block:
        now = self._clock.monotonic()
        block = Block.parse(await request(self._rpc, "eth_getBlockByNumber", ["latest", False]))
        self._asked_at_seconds = now
        self._rhythm.note(block.number, block.timestamp, now)
        if self._newest is None or not self._is_behind(block, self._newest):
            self._newest = block
            self._remember(block)
        return self._newest

    def get_hash(self, number: int) -> str | None:
        """Return the hash of a recent block as far as it is known."""
        return self._hashes.get(number)

    def _is_behind(self, block: Block, newest: Block) -> bool:
        return block.number < newest.number and self._hashes.get(block.number) == block.hash

    def _remember(self, block: Block) -> None:
        for number in [number for number in self._hashes if number > block.number]:
            del self._hashes[number]
        self._hashes[block.number] = block.hash
        self._hashes[block.number - 1] = block.parent
        while len(self._hashes) > _REMEMBERED:
            self._hashes.popitem(last=False)
