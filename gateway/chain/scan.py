"""Events for many waiting tasks by one shared scan per new block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from gateway.chain.endpoint import InternalError
from gateway.chain.heads import Block, Heads
from gateway.chain.rpc import Asks, Log, Outcome, Question, RpcRefused, parse_log, request_many
from gateway.clock import Clock, SystemClock
from gateway.errors import BackendError, Misbehaved

WIDEST, NARROWEST = 10_000, 16  # blocks per eth_getLogs: to begin with, and where a limit is not believed
_ANCHORS = 256
_AGAIN_SECONDS = 1.0  # what one replica could not answer is asked again no sooner, without a new block
_RANGE_WORDS = ("range", "limit", "too many", "more than", "too large", "exceed", "timeout", "timed out")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which events: of these contracts, with one of these first topics."""

    addresses: tuple[str, ...]
    topics: tuple[bytes, ...]

    def encode(self, first: int, last: int) -> dict[str, Any]:
        """Return it as eth_getLogs takes it, for a range of blocks, both included."""
        topics = ["0x" + topic.hex() for topic in self.topics]
        return {
            "address": list(self.addresses),
            "topics": [topics],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }


class LogScan:
    """Scans a set of contracts for a set of events, once per new block, and hands each waiter its own.

    The last blocks are scanned again each time and their events replaced, so a reorg changes what is seen; a
    reorg that is deeper is noticed by the hashes of the blocks that were scanned before.

    Args:
        rpc: of the chain.
        heads: the chain's newest block, shared with the other followers.
        wanted: which events.
        keys_of: whom an event concerns, in the words in which `watch` is called. Case matters.
        confirmations: an event counts once it lies so many blocks deep; 1: at once.
        again_blocks: how many of the last blocks are scanned anew each time.
    """

    def __init__(
        self,
        rpc: Asks,
        heads: Heads,
        wanted: LogFilter,
        *,
        keys_of: Callable[[Log], Iterable[str]],
        confirmations: int = 1,
        again_blocks: int = 12,
        clock: Clock | None = None,
    ) -> None:
        self._rpc = rpc
        self._heads = heads
        self._wanted = wanted
        self._keys_of = keys_of
        self._confirmations = max(1, confirmations)
        self._again_blocks = max(again_blocks, self._confirmations)
        self._clock = clock or SystemClock()
        self._widest = WIDEST
        self._logs: dict[str, list[Log]] = {}  # by key
        self._since: dict[str, int] = {}  # keys that want older blocks than were scanned for them
        self._recent: dict[str, list[Log]] = {}  # everybody's, of the blocks that are scanned anew each time
        self._recent_first = 0
        self._anchors: dict[int, str] = {}  # scanned heads: number to hash
        self._done: Block | None = None
        self._tried: tuple[str, float] = ("", 0.0)
        self._turn = anyio.Lock()

    @property
    def block(self) -> Block | None:
        """The newest block that was scanned: of this one is what the last `look` returned."""
        return self._done

    def watch(self, key: str, *, since: int) -> None:
        """Begin to collect a key's events, from a block on. A second time it changes nothing."""
        if key in self._logs:
            return
        self._logs[key] = []
        if self._done is not None and self._recent_first <= since:
            self._logs[key] = list(self._recent.get(key, ()))
        else:
            self._since[key] = since

    def drop(self, key: str) -> None:
        """Stop collecting a key's events."""
        self._logs.pop(key, None)
        self._since.pop(key, None)

    async def look(self, keys: Iterable[str]) -> dict[str, tuple[Log, ...]]:
        """Return each watched key's events so far, in the chain's order, as deep as they must lie.

        Scans if there is a new block, or if a key needs older ones. Raises as `rpc.request`; then nothing is
        known that was not known before.
        """
        async with self._turn:
            await self._catch_up()
        deepest = self._done.number - self._confirmations + 1 if self._done else -1
        return {
            key: tuple(log for log in self._logs.get(key, ()) if log.block_number <= deepest) for key in keys
        }

    async def _catch_up(self) -> None:
        head = await self._heads.fetch()
        if self._done is not None and self._done.hash == head.hash and not self._since:
            return
        if not self._logs:
            return
        now = self._clock.monotonic()
        if self._tried[0] == head.hash and now - self._tried[1] < _AGAIN_SECONDS:
            return
        self._tried = head.hash, now
        new = set(self._since)
        first = self._choose_first(head)
        anchor = max((number for number in self._anchors if number < first), default=None)
        checks = [head.number] if anchor is None else [head.number, anchor]
        logs, blocks = await self._fetch(first, head.number, checks)
        if _get_hash(blocks[0]) != head.hash:
            return  # a replica that has not this block, or another one: the next look asks again
        if anchor is not None and _get_hash(blocks[1]) != self._anchors[anchor]:
            first = min(first, await self._find_fork())
            logs, _ = await self._fetch(first, head.number, [])
        self._replace(first, head, logs)
        self._since = {key: since for key, since in self._since.items() if key not in new}

    def _choose_first(self, head: Block) -> int:
        """Return the first block to scan: the last ones again, and further back for new keys."""
        firsts = list(self._since.values())
        if self._done is not None:
            firsts.append(min(self._done.number, head.number) - self._again_blocks + 1)
        return max(0, min([*firsts, head.number]))

    async def _find_fork(self) -> int:
        """Return the first block after the newest scanned one that is still on the chain."""
        numbers = sorted(self._anchors, reverse=True)
        questions: list[Question] = [("eth_getBlockByNumber", [hex(number), False]) for number in numbers]
        blocks = await request_many(self._rpc, questions)
        for number, block in zip(numbers, blocks, strict=True):
            if _get_hash(block) == self._anchors[number]:
                return number + 1
            del self._anchors[number]
        lowest = min(numbers)
        return max(0, lowest - self._again_blocks)

    async def _fetch(self, first: int, last: int, checks: Sequence[int]) -> tuple[list[Log], list[Any]]:
        """Fetch the events of a range and some blocks, in one batch if the RPC takes the range."""
        while True:
            starts = range(first, last + 1, self._widest)
            questions: list[Question] = [
                ("eth_getLogs", [self._wanted.encode(start, min(last, start + self._widest - 1))])
                for start in starts
            ]
            questions += [("eth_getBlockByNumber", [hex(number), False]) for number in checks]
            outcomes = await self._rpc.ask(questions)
            found, blocks = outcomes[: len(starts)], outcomes[len(starts) :]
            width = min(self._widest, last - first + 1)
            if width > NARROWEST and any(is_too_wide(outcome) for outcome in found):
                self._widest = max(NARROWEST, width // 2)
                continue
            for outcome in outcomes:
                if isinstance(outcome, BackendError):
                    raise outcome
            return [log for some in found for log in _parse_logs(some)], blocks

    def _replace(self, first: int, head: Block, logs: list[Log]) -> None:
        """Take over a scan: what was known from its first block on is forgotten."""
        for key, known in self._logs.items():
            if known and known[-1].block_number >= first:
                self._logs[key] = [log for log in known if log.block_number < first]
        self._recent_first = max(first, head.number - self._again_blocks + 1)
        self._recent = {}
        for log in logs:
            for key in self._keys_of(log):
                if key in self._logs:
                    self._logs[key].append(log)
                if log.block_number >= self._recent_first:
                    self._recent.setdefault(key, []).append(log)
        for number in [number for number in self._anchors if number >= head.number]:
            del self._anchors[number]
        self._anchors[head.number] = head.hash
        while len(self._anchors) > _ANCHORS:
            del self._anchors[min(self._anchors)]
        self._done = head


def is_too_wide(outcome: Outcome) -> bool:
    """Say whether an RPC refused eth_getLogs for the number of its blocks, or of what it found in them."""
    refused = isinstance(outcome, RpcRefused | InternalError)
    return refused and any(word in outcome.message.lower() for word in _RANGE_WORDS)


def _parse_logs(outcome: Outcome) -> list[Log]:
    if not isinstance(outcome, list):
        raise Misbehaved("the RPC's logs are no list")
    return sorted(map(parse_log, outcome), key=lambda log: (log.block_number, log.index))


def _get_hash(block: Any) -> str | None:
    return str(block.get("hash")) if isinstance(block, dict) else None
