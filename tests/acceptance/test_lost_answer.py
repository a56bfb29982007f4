"""One user call starts one job, whatever becomes of the answer: our rows of the lost-answer table."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks.lost_answer.cells import Cell, Row, find_broken
from benchmarks.lost_answer.losses import Loss
from benchmarks.lost_answer.ours import KINDS, Kind, measure_cell

pytestmark = pytest.mark.anyio

CELLS = [pytest.param(kind, loss, id=f"{kind.name}, {loss.value}") for kind in KINDS for loss in Loss]


@pytest.mark.parametrize(("kind", "loss"), CELLS)
async def test_one_call_starts_one_job(kind: Kind, loss: Loss) -> None:
    cell = await measure_cell(kind, loss)
    assert cell.accepted == 1, cell
    assert cell.told in ("finished", "in doubt, with its handle")
    assert cell.kept


async def test_a_job_that_nobody_can_look_up_is_in_doubt_with_its_handle() -> None:
    infernet = next(kind for kind in KINDS if kind.name == "infernet")
    blind = replace(infernet, is_submission=lambda _method, path, _body: path.startswith("/api/jobs"))
    cell = await measure_cell(blind, Loss.SERVER_ERROR, doubt_wait=timedelta(seconds=0.2))
    assert (cell.accepted, cell.told, cell.kept) == (1, "in doubt, with its handle", True)


def test_a_broken_promise_is_named() -> None:
    cells = {
        Loss.DROP: Cell(2, "finished", 0.1, kept=False),
        Loss.BAD_GATEWAY: Cell(1, "failed: throttled", 0.1, kept=False),
        Loss.HANG: Cell(1, "finished", 0.1, kept=True),
    }
    peer = Row("a peer", "defaults", {Loss.DROP: Cell(9, "raised", 0.1)})
    assert find_broken([Row("ours", "defaults", cells), peer]) == [
        "ours, connection dropped: 2 jobs, finished",
        "ours, 502: 1 jobs, failed: throttled",
    ]
