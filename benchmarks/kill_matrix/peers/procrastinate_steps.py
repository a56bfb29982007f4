"""Procrastinate: a job of three steps; it keeps none of them. Words: the orders.

A job whose worker has died stays as it is until the application retries it: that is done here as its
documentation has it, by the workers' heartbeats.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from procrastinate import App, PsycopgConnector

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from benchmarks.kill_matrix.peers.work import NOT_TAKEN_IN, Orders, Work, read_orders, tell

_HEARTBEAT_SECONDS = 0.5
_STALLED_SECONDS = 2.0
_LOOK_SECONDS = 0.05
orders = read_orders()
work = Work(orders)
app = App(connector=PsycopgConnector(conninfo=orders.store, min_size=1, max_size=4))


@app.task(name="three")  # type: ignore[untyped-decorator]
async def three(key: str) -> str:
    """Prepare, submit, collect."""
    work.prepare()
    job_id = await asyncio.to_thread(work.submit, key)
    return await asyncio.to_thread(work.collect, job_id)


async def main(orders: Orders) -> None:
    """Make the call; or work on, and retry what stalled."""
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        if orders.role == "call":
            await three.configure(lock=orders.key).defer_async(key=orders.key)
        working = asyncio.create_task(
            app.run_worker_async(
                install_signal_handlers=False,
                update_heartbeat_interval=_HEARTBEAT_SECONDS,
                stalled_worker_timeout=_STALLED_SECONDS,
                fetch_job_polling_interval=_HEARTBEAT_SECONDS,
            )
        )
        tell(await wait(orders.key))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def wait(key: str) -> str:
    """Retry what stalled until the job has ended, and say how."""
    while True:
        jobs = list(await app.job_manager.list_jobs_async(lock=key))
        if not jobs:
            return NOT_TAKEN_IN
        if jobs[0].status not in ("todo", "doing"):
            return "finished" if jobs[0].status == "succeeded" else f"failed: {jobs[0].status}"
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=_STALLED_SECONDS):
            await app.job_manager.retry_job(job)
        await asyncio.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(orders))
