"""Following one task by its stream, with GET as the truth.

A stream may be quiet for a day as long as it beats. When it says nothing at all for two and a half
heartbeats, is cut, or ends, the task is looked up; if that has not ended either, the stream is opened again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import Misbehaved, Rejected, Unavailable
from gateway.http import StreamAnswer
from gateway.task import Event, Snapshot
from gateway.types import JSON
from gateway_inferencesh.api import Api, make_path
from gateway_inferencesh.lines import (
    Delta,
    Heartbeat,
    Line,
    LineSplitter,
    LineTooLong,
    Part,
    merge_delta,
    merge_part,
    parse_line,
)
from gateway_inferencesh.snapshots import make_lost, make_snapshot
from gateway_inferencesh.wire import parse_status

SILENT_HEARTBEATS = 2.5
"""After so many without a byte the stream is left."""
QUIET_HEARTBEATS = 3.0
"""After so many with nothing but heartbeats the status is looked up, then after twice as many, and so on."""
MAX_QUIET_HEARTBEATS = 30.0
ENDING_SECONDS = 0.05
"""For a server to end the stream of a task that has ended."""
MAX_EMPTY_STREAMS = 5
"""Streams in a row that said nothing new; then the job is left to polling."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """See InferenceshConfig."""

    heartbeat_seconds: float
    max_line_bytes: int
    microcents_per_usd: int


class TaskStream:
    """The events of one task."""

    def __init__(self, api: Api, clock: Clock, job_id: str, options: StreamOptions) -> None:
        self._api = api
        self._clock = clock
        self._job_id = job_id
        self._options = options
        self._task: dict[str, JSON] = {"id": job_id}
        self._answer: dict[str, JSON] = {}
        self._deltas: list[Mapping[str, JSON]] = []
        self._last_seq: dict[str, int] = {}
        self._told: tuple[JSON, JSON] | None = None
        self._news = False
        self._heard_at = self._news_at = 0.0
        self._quiet_seconds = 0.0

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield snapshots and pieces until the task has ended or its stream can't be had.

        Raises:
            BackendError: when the stream is refused, or the truth can't be had.
        """
        empty = 0
        while empty <= MAX_EMPTY_STREAMS:
            self._news = False
            async with aclosing(self._listen()) as events:
                async for event in events:
                    yield event
            snapshot = await self._fetch_truth()
            if snapshot is not None and (snapshot.status.is_final or self._is_new(snapshot)):
                yield Event(kind="snapshot", snapshot=snapshot)
                if snapshot.status.is_final:
                    return
            empty = 0 if self._news else empty + 1
            await self._clock.sleep(self._choose_wait(empty))

    async def _listen(self) -> AsyncGenerator[Event, None]:
        """Read one stream to its end, whatever the end is."""
        self._heard_at = self._clock.monotonic()
        self._note_news()
        silence = self._options.heartbeat_seconds * SILENT_HEARTBEATS
        try:
            async with self._api.open_lines(self._job_id, silence_seconds=silence) as stream:
                lines = self._read_lines(stream)
                async for line in lines:
                    if isinstance(line, Delta):
                        event = self._take_delta(line)
                    else:
                        event = await self._take(line)
                        if self._has_ended():
                            await _read_to_end(lines)
                            return
                    if event is not None:
                        yield event
        except Unavailable as error:
            if error.http_status is not None:  # refused, not cut
                raise
        except Rejected as error:
            if error.http_status != 404:  # the truth knows whether the task or only its stream is gone
                raise
        except LineTooLong as error:
            raise Misbehaved(
                f"the stream of task {self._job_id}: {error}",
                backend=self._api.backend,
                job_id=self._job_id,
            ) from error

    async def _read_lines(self, stream: StreamAnswer) -> AsyncIterator[Line]:
        splitter = LineSplitter(self._options.max_line_bytes)
        async for chunk in stream.aiter_bytes():
            self._heard_at = self._clock.monotonic()
            for raw in splitter.feed(chunk):
                if (line := parse_line(raw, self._job_id)) is not None:
                    yield line
        if (line := parse_line(splitter.flush(), self._job_id)) is not None:
            yield line

    async def _take(self, line: Part | Heartbeat) -> Event | None:
        if isinstance(line, Part):
            return self._take_part(line)
        self._news = True
        part = await self._look_up_if_quiet()
        return None if part is None else self._take_part(part)

    def _take_part(self, part: Part) -> Event | None:
        self._task = merge_part(self._task, part)
        snapshot = self._make_snapshot(self._task)
        if snapshot is None or snapshot.status.is_final or not self._is_new(snapshot):
            return None  # the last snapshot comes from GET
        self._note_news()
        self._news = True
        return Event(kind="snapshot", snapshot=snapshot)

    def _take_delta(self, delta: Delta) -> Event | None:
        if delta.seq is not None:
            if delta.seq <= self._last_seq.get(delta.producer, -1):
                return None  # said again after a reconnect
            self._last_seq[delta.producer] = delta.seq
        self._deltas.append(delta.delta)
        self._note_news()
        self._news = True
        return Event(kind="piece", piece=delta.delta)

    def _get_answer(self) -> Mapping[str, JSON]:
        """Return all deltas put together, as far as they have come; only snapshots ask for it."""
        for delta in self._deltas:
            self._answer = merge_delta(self._answer, delta)
        self._deltas.clear()
        return self._answer

    def _is_new(self, snapshot: Snapshot) -> bool:
        """Say whether a snapshot tells something new, and take note of it.

        Output so far is told by pieces where there are any: saying all of it again with each would cost
        the square of its length.
        """
        told = (snapshot.status, None if self._get_answer() else snapshot.output)
        if told == self._told:
            return False
        self._told = told
        return True

    def _make_snapshot(self, task: dict[str, JSON]) -> Snapshot | None:
        answer = self._get_answer()
        if answer and task.get("output") is None and not self._has_ended():
            task = {**task, "output": answer}
        return make_snapshot(
            task, backend=self._api.backend, microcents_per_usd=self._options.microcents_per_usd
        )

    def _has_ended(self) -> bool:
        status = parse_status(self._task.get("status"))
        return status is not None and status.is_final

    async def _fetch_truth(self) -> Snapshot | None:
        """GET the whole task. What was put together here counts for nothing any more."""
        try:
            task = await self._api.fetch_task(self._job_id)
        except Rejected as error:
            if error.http_status != 404:
                raise
            return make_lost(self._job_id, self._api.backend)
        self._task = {**task, "id": self._job_id}
        return self._make_snapshot(self._task)

    async def _look_up_if_quiet(self) -> Part | None:
        """Look at the status when there were only heartbeats for long, or since the start."""
        now = self._clock.monotonic()
        if "status" in self._task and now - self._news_at < self._quiet_seconds:
            return None
        self._news_at = now
        longest = MAX_QUIET_HEARTBEATS * self._options.heartbeat_seconds
        self._quiet_seconds = min(self._quiet_seconds * 2, longest)
        path = make_path("tasks", self._job_id, "status")
        try:
            look = await self._api.fetch_object("GET", path, what=f"task {self._job_id}", job_id=self._job_id)
        except Unavailable:
            return None  # the stream is alive, and the next heartbeat will ask again
        return Part(look, ("status",))

    def _note_news(self) -> None:
        self._news_at = self._heard_at
        self._quiet_seconds = QUIET_HEARTBEATS * self._options.heartbeat_seconds

    def _choose_wait(self, empty: int) -> float:
        longest = min(self._options.heartbeat_seconds, 0.25 * 2**empty)
        return random.uniform(longest / 2, longest)  # noqa: S311  jitter is no secret


async def _read_to_end(lines: AsyncIterator[Line]) -> None:
    """Read what is left of a stream that is over, so that its connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ENDING_SECONDS):
            async for _ in lines:
                continue
