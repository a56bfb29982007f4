"""The store alone: runs are created, dispatched with an envelope, ended. Words: store, runs, in flight."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.durability.drives.measure import drive, tell
from gateway.engine.ids import make_run_id
from gateway.lifecycle import AttemptStatus, Status
from gateway.store import make_store
from gateway.task import Attempt, Envelope, Event, Handle, Run, Task
from gateway.types import AttemptId


def make_states() -> tuple[Run, tuple[Run, Sequence[Event]], tuple[Run, Sequence[Event]]]:
    """Return a run as it is when it is new, dispatched and ended, with what happened."""
    now = datetime.now(UTC)
    run = Run(
        id=make_run_id(now),
        task=Task(model="m", input={"text": "hello"}),
        backend="auto",
        status=Status.RECEIVED,
        created_at=now,
        updated_at=now,
        passed=((Status.RECEIVED, now),),
    )
    attempt = Attempt(
        id=AttemptId(f"a-{run.id}"),
        number=1,
        backend="mock",
        address="mock",
        target={"app": "echo"},
        status=AttemptStatus.PREPARED,
        created_at=now,
        envelope=Envelope(attempt_id=AttemptId(f"a-{run.id}"), backend="mock", payload={"id": run.id}),
    )
    sent = replace(
        run, attempts=(attempt,), status=Status.DISPATCHED, passed=(*run.passed, (Status.DISPATCHED, now))
    )
    done = replace(
        attempt, status=AttemptStatus.SUCCEEDED, handle=Handle("mock", "1"), submitted_at=now, ended_at=now
    )
    end = replace(
        sent, attempts=(done,), status=Status.COMPLETED, output={"done": True}, ended_at=now, updated_at=now
    )
    event = Event(kind="attempt", seq=1, run_id=run.id, at=now, attempt=1, backend="mock", message="prepared")
    last = Event(kind="end", seq=2, run_id=run.id, at=now, status=Status.COMPLETED)
    return run, (sent, [event]), (end, [last])


async def main(url: str, total: int, in_flight: int) -> None:
    """Measure; the runs are made before."""
    states = iter([make_states() for _ in range(total + 20)])
    store = make_store(url)
    await store.open()

    async def one(_: int) -> None:
        run, *steps = next(states)
        fence = await store.create(run, owner="me")
        for state, events in steps:
            await store.save(state, fence=fence, events=events)

    tell(await drive(one, total, in_flight))
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
