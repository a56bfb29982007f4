"""DBOS Transact: a workflow of three steps, under an id of the caller's. Words: the orders."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from dbos import DBOS, SetWorkflowID

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from benchmarks.kill_matrix.peers.work import NOT_TAKEN_IN, Orders, Work, read_orders, tell

_LOOK_SECONDS = 0.05
orders = read_orders()
work = Work(orders)


@DBOS.step()  # type: ignore[untyped-decorator]
async def prepare() -> str:
    """Make what is submitted."""
    return work.prepare()


@DBOS.step()  # type: ignore[untyped-decorator]
async def submit(key: str) -> str:
    """Begin a job."""
    return await asyncio.to_thread(work.submit, key)


@DBOS.step()  # type: ignore[untyped-decorator]
async def collect(key: str) -> str:
    """Fetch the result."""
    return await asyncio.to_thread(work.collect, key)


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def workflow(key: str) -> str:
    """Prepare, submit, collect."""
    await prepare()
    job_id = await submit(key)
    done: str = await collect(job_id)
    return done


async def main(orders: Orders) -> None:
    """Make the call; or launch, which recovers what was pending, and wait."""
    DBOS(
        config={
            "name": "kill_matrix",
            "system_database_url": orders.store,
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )
    logging.disable(logging.WARNING)
    DBOS.launch()
    if orders.role == "call":
        with SetWorkflowID(orders.key):
            await DBOS.start_workflow_async(workflow, orders.key)
    while True:
        found = await DBOS.get_workflow_status_async(orders.key)
        if found is None or found.status not in ("PENDING", "ENQUEUED"):
            tell(NOT_TAKEN_IN if found is None else _describe(found.status))
            break
        await asyncio.sleep(_LOOK_SECONDS)
    DBOS.destroy()


def _describe(status: str) -> str:
    return "finished" if status == "SUCCESS" else f"failed: {status}"


if __name__ == "__main__":
    asyncio.run(main(orders))
