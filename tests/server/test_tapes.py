"""How long recordings of runs that ended are kept: a minute, and no more of them than have room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from gateway.lifecycle import Status
from gateway.server import tapes as module
from gateway.server.tapes import MOST_KEPT_BYTES, Place, Tapes
from gateway.task import Event, Snapshot

if TYPE_CHECKING:
    from gateway.client import AsyncGateway

pytestmark = pytest.mark.anyio
_QUARTER = b"x" * (MOST_KEPT_BYTES // 4)


class _Runs:
    """Tapes, and the runs that they record."""

    def __init__(self) -> None:
        self.tapes = Tapes()
        self._tell: dict[str, Callable[[Event | None], None]] = {}
        hosting = SimpleNamespace(hear=self._hear, works_on=lambda _: True)
        self._gateway = cast("AsyncGateway", SimpleNamespace(hosting=hosting))

    def _hear(self, run_id: str, tell: Callable[[Event | None], None]) -> bool:
        self._tell[run_id] = tell
        return True

    def begin(self, run_id: str, *pieces: bytes) -> None:
        self.tapes.begin(run_id, self._gateway)
        for data in pieces:
            self.tell(run_id, Event(kind="piece", data=data))

    def tell(self, run_id: str, event: Event) -> None:
        self._tell[run_id](event)

    def end(self, run_id: str) -> None:
        tape = self.tapes.get(run_id)
        assert tape is not None
        self._tell[run_id](Event(kind="end", seq=tape.place.seq + 1, status=Status.COMPLETED))
        self._tell[run_id](None)

    @property
    def kept(self) -> str:
        return "".join(run_id for run_id in "abcdefgh" if self.tapes.get(run_id) is not None)


async def _let_timers_fire() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_ended_first_is_forgotten_first_when_there_is_no_room() -> None:
    runs = _Runs()
    for run_id in "abc":
        runs.begin(run_id, _QUARTER)
        runs.end(run_id)
    assert runs.kept == "abc"
    runs.begin("d", _QUARTER, _QUARTER)
    assert runs.kept == "abcd"  # what goes on takes no room
    runs.end("d")
    assert runs.kept == "cd"
    await runs.tapes.aclose()


async def test_the_newest_is_kept_however_large_and_what_goes_on_too() -> None:
    runs = _Runs()
    runs.begin("a", *[_QUARTER] * 9)
    runs.begin("b", _QUARTER)
    runs.end("b")
    assert runs.kept == "ab"
    runs.begin("c", *[_QUARTER] * 9)
    runs.end("c")
    assert runs.kept == "ac"
    await runs.tapes.aclose()


@pytest.mark.parametrize(
    "event",
    [
        Event(kind="piece", piece="x" * len(_QUARTER)),
        Event(kind="piece", piece={"choices": [{"delta": {"content": "x" * len(_QUARTER)}}]}),
        Event(kind="piece", piece=[0.5] * (len(_QUARTER) // 32)),
        Event(kind="piece", piece={"x" * len(_QUARTER): 1}),
        Event(kind="snapshot", seq=1, snapshot=Snapshot(status=Status.RUNNING, output="x" * len(_QUARTER))),
    ],
    ids=["text", "chunk", "numbers", "name", "snapshot"],
)
async def test_json_takes_the_room_that_it_takes(event: Event) -> None:
    runs = _Runs()
    for run_id in "abcde":
        runs.begin(run_id)
        runs.tell(run_id, event)
        runs.end(run_id)
    assert runs.kept in ("cde", "de")
    await runs.tapes.aclose()


async def test_who_reads_reads_to_the_end_though_it_is_forgotten() -> None:
    runs = _Runs()
    runs.begin("a", b"1", b"2")
    tape = runs.tapes.get("a")
    assert tape is not None
    reading = tape.read(Place(0))
    assert (await anext(reading))[1].data == b"1"
    runs.end("a")
    runs.begin("b", *[_QUARTER] * 5)
    runs.end("b")
    assert runs.kept == "b"
    assert [event.kind async for _, event in reading] == ["piece", "end"]
    await runs.tapes.aclose()


async def test_a_run_is_forgotten_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _Runs()
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.0)
    runs.begin("a", b"1")
    runs.begin("b", b"1")
    runs.end("a")
    await _let_timers_fire()
    assert runs.kept == "b"
    runs.end("b")
    await _let_timers_fire()
    assert runs.kept == ""
    monkeypatch.undo()
    runs.begin("c", b"1")
    runs.end("c")
    await _let_timers_fire()
    assert runs.kept == "c"
    await runs.tapes.aclose()
