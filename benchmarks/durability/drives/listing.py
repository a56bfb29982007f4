"""A store that is full of runs that have ended: how long it takes to find some. Words: path, runs."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.durability.drives.journal import make_states
from benchmarks.durability.drives.measure import tell
from gateway.lifecycle import Phase, Status
from gateway.store.protocol import RunFilter
from gateway.store.sqlite import SqliteStore

_FIRST_AT = datetime(2026, 1, 1, tzinfo=UTC)
_COPY = """
INSERT INTO runs (id, created_at, status, phase, model, backend, address, ended_at, unresolved, task, state)
SELECT printf('run_%012x', n), ?1 + n, CASE n % 100 WHEN 0 THEN 11 WHEN 1 THEN 12 ELSE 10 END,
    CASE WHEN n % 100 < 2 THEN 'failed' ELSE 'success' END, 'm' || (n % 7), 'b' || (n % 5), 'mock',
    ?1 + n + 1, n % 50 = 0, ?2, ?3
FROM (WITH RECURSIVE counting(n) AS (SELECT ?4 UNION ALL SELECT n + 1 FROM counting WHERE n + 1 < ?5)
      SELECT n FROM counting)
"""
_COPY_ATTEMPTS = """
INSERT INTO attempts (
    run_id, number, backend, model, created_at, ended_at, succeeded, doubted, seconds, state)
SELECT id, 1, backend, model, created_at, ended_at, 1, 0, 1.0, ?1 FROM runs WHERE created_at >= ?2
"""


def fill(path: Path, total: int) -> None:
    """Write so many runs as the store would have them, in SQL: through the store it would take long."""
    db = sqlite3.connect(path)
    run, _, (end, _) = make_states()
    state = end.model_dump_json()
    db.execute("PRAGMA synchronous = OFF")
    for start in range(0, total, 100_000):
        first = _FIRST_AT.timestamp()
        rows = (first, run.task.model_dump_json(), state, start, min(start + 100_000, total))
        db.execute(_COPY, rows)
        db.execute(_COPY_ATTEMPTS, (end.attempts[0].model_dump_json(), first + start))
        db.commit()
    db.close()


async def main(path: Path, total: int) -> None:
    """Measure each question, the median of eleven times."""
    store = SqliteStore(path)
    await store.open()
    await store.aclose()
    fill(path, total)
    await store.open()
    middle = _FIRST_AT + timedelta(seconds=total / 2)
    questions = {
        "newest": RunFilter(),
        "phase": RunFilter(phase=Phase.FAILED),
        "status": RunFilter(status=Status.CANCELLED),
        "status that no run has": RunFilter(status=Status.REJECTED),
        "open": RunFilter(phase=Phase.RUNNING),
        "model": RunFilter(model="m3"),
        "backend": RunFilter(backend="b2"),
        "model and phase": RunFilter(model="m3", phase=Phase.FAILED),
        "backend and phase": RunFilter(backend="b2", phase=Phase.SUCCESS),
        "model and backend": RunFilter(model="m3", backend="b2"),
        "page in the middle": RunFilter(before=middle, before_id="run_00000007a120"),
        "key that no run has": RunFilter(idempotency_key="k"),
    }
    found: dict[str, float] = {}
    for name, which in questions.items():
        found[name] = await measure(lambda which=which: store.list_runs(which))
    found["get"] = await measure(lambda: store.get(f"run_{total // 2:012x}"))
    found["file_mb"] = path.stat().st_size / 1e6  # noqa: ASYNC240  once, at the end
    await store.aclose()
    tell(found)


async def measure(ask: object) -> float:
    """Return the median time in ms."""
    times = []
    for _ in range(11):
        began = time.perf_counter()
        await ask()  # type: ignore[operator]  # any call of the store
        times.append((time.perf_counter() - began) * 1e3)
    return sorted(times)[5]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
