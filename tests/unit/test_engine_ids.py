"""The ids of runs and attempts: nobody has the same, in whatever thread or process."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateway.engine.ids import make_attempt_id, make_run_id

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_MANY = 2_000


def _make_some() -> list[str]:
    return [*(make_run_id(_NOW) for _ in range(_MANY)), *(make_attempt_id() for _ in range(_MANY))]


def test_no_two_threads_make_the_same() -> None:
    made: list[list[str]] = []
    threads = [threading.Thread(target=lambda: made.append(_make_some())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for some in made for one in some}) == 4 * 2 * _MANY


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings(
    "ignore:.*fork.*:DeprecationWarning"
)  # newer Pythons warn where there are threads
def test_a_forked_child_makes_others() -> None:
    make_run_id(_NOW)  # so that there is something that both could draw
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, make_run_id(_NOW).encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as told:
        of_child = told.read()
    os.waitpid(child, 0)
    assert of_child.startswith("run_")
    assert of_child not in {make_run_id(_NOW) for _ in range(_MANY)}


def test_later_ones_are_greater() -> None:
    assert make_run_id(_NOW) < make_run_id(_NOW + timedelta(milliseconds=1))


def test_an_attempts_is_a_random_uuid() -> None:
    assert UUID(make_attempt_id()).version == 4
