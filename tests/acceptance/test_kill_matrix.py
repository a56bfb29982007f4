"""`kill -9` at every step, counted at the backend: the kill matrix, with fewer cells than the benchmark has.

One adapter goes through all points; the others through those where they differ from it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.kill_matrix.cells import Cell, Found, Way, find_all_broken
from benchmarks.kill_matrix.kinds import Inferencesh, Infernet, Kind, Ogpu
from benchmarks.kill_matrix.lanes import measure_lane
from benchmarks.kill_matrix.peers.__main__ import Contender, measure
from benchmarks.kill_matrix.peers.backend import ANSWER_LOST, NEVER_ARRIVES
from benchmarks.kill_matrix.points import POINTS, At, Point, Write
from benchmarks.kill_matrix.stores import PLACES, POSTGRES, SQLITE, Place
from gateway.store.protocol import LEASE_LASTS, SHARED_LEASE_LASTS

pytestmark = pytest.mark.anyio

OF_ACCEPTING = tuple(point for point in POINTS if point.needs_accepting)
OF_DOUBT = (
    Point(At.STORE_AFTER, Write.ENVELOPE),
    Point(At.WIRE_LATE),
    Point(At.WIRE_ANSWERED),
    Point(At.STORE_BEFORE, Write.HANDLE),
    Point(At.LOOK),
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_no_death_loses_a_run_or_pays_twice(place: Place) -> None:
    ways = (Way.RESTART, Way.REPLICA)
    lanes = await asyncio.gather(*(measure_lane(Infernet, place, way) for way in ways))
    cells = [cell for lane in lanes for cell in lane]
    assert find_all_broken(cells) == []
    assert {cell.point for cell in cells} == set(POINTS) - set(OF_ACCEPTING)
    assert [cell for cell in cells if cell.found.in_doubt] == []
    assert [cell.point.write for cell in cells if cell.never_taken_in] == [Write.RUN]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_a_process_that_wakes_up_after_its_run_was_taken_over_does_not_act(place: Place) -> None:
    """It was about to send what the other sent meanwhile, to note where that is, or to look at it."""
    # A lease of SQLite's is long: its cells wait side by side.
    groups = [(point,) for point in OF_DOUBT] if place is SQLITE else [OF_DOUBT]
    lanes = await asyncio.gather(*(measure_lane(Infernet, place, Way.PAUSED, group) for group in groups))
    cells = [cell for lane in lanes for cell in lane]
    assert find_all_broken(cells) == []
    assert {(cell.told, cell.was_stored) for cell in cells} == {("1, finished", True)}
    lease = SHARED_LEASE_LASTS if place is POSTGRES else LEASE_LASTS
    assert min(cell.seconds for cell in cells) > lease.total_seconds() / 2  # nobody was thought to be dead


@pytest.mark.parametrize(
    ("kind", "points", "ways"),
    [
        pytest.param(Inferencesh, OF_DOUBT, (Way.REPLICA, Way.RESTART), id="in doubt"),
        pytest.param(Ogpu, OF_ACCEPTING[1:4], (Way.RESTART,), id="accepting, restarted"),
        pytest.param(Ogpu, OF_ACCEPTING[3:], (Way.REPLICA,), id="accepting, taken over"),
    ],
)
async def test_where_a_backend_differs(
    kind: type[Kind], points: tuple[Point, ...], ways: tuple[Way, ...]
) -> None:
    lanes = await asyncio.gather(*(measure_lane(kind, SQLITE, way, points) for way in ways))
    cells = [cell for lane in lanes for cell in lane]
    assert find_all_broken(cells) == []
    assert len(cells) == len(points) * len(ways)
    in_doubt = {cell.point for cell in cells if cell.found.in_doubt}
    assert in_doubt == ({OF_DOUBT[0]} if kind is Inferencesh else set())
    assert {cell.submitted for cell in cells} == ({0, 1} if in_doubt else {1})


async def test_the_script_for_peers_finds_nothing_paid_twice_with_ours(tmp_path: Path) -> None:
    """The peers themselves are not installed for a test."""
    points = (NEVER_ARRIVES, ANSWER_LOST, "end submit")
    found = await measure([Contender("ours", "ours.py", lambda: f"sqlite:///{tmp_path / 'runs.db'}")], points)
    assert [(cell.paid, cell.told) for cell in found["ours"]] == [(1, "finished")] * len(points)


def make_cell(found: Found, *, way: Way = Way.RESTART, **counts: int) -> Cell:
    cell = Cell("a", "sqlite", Point(At.LOOK), way, was_stored=True, found=found, submitted=1)
    for name, count in counts.items():
        setattr(cell, name, count)
    return cell


GOOD = Found(told="finished")
DOUBT = Found(told="in doubt", in_doubt=True)


@pytest.mark.parametrize(
    ("cell", "broken"),
    [
        (make_cell(GOOD), []),
        (make_cell(GOOD, submitted=2), ["paid twice"]),
        (make_cell(GOOD, accepted=2), ["paid twice"]),
        (make_cell(GOOD, submitted=0), ["lost"]),
        (make_cell(GOOD, wants_accepting=True), ["not accepted"]),
        (make_cell(Found(told="failed: no", is_known=False)), ["lost"]),
        (make_cell(Found()), ["lost: its run is not in the store", "sent without a run"]),
        (make_cell(Found(told="finished", ends=2)), ["recorded 2 ends"]),
        (make_cell(Found(told="finished", is_booked=False)), ["the budget is not in order"]),
        (make_cell(DOUBT), ["in doubt, where the backend knows"]),
        (make_cell(DOUBT, submitted=0, is_allowed_doubt=True), []),
        (make_cell(Found(), way=Way.REPLICA, was_stored=False, submitted=0), []),
        (make_cell(Found(), way=Way.REPLICA, was_stored=False), ["sent without a run"]),
    ],
)
def test_a_broken_promise_is_named(cell: Cell, broken: list[str]) -> None:
    assert cell.find_broken() == broken
