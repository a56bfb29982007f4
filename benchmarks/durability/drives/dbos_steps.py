"""DBOS Transact: a workflow of three steps. Words: database, runs, in flight."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from dbos import DBOS

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from benchmarks.durability.drives.measure import drive, tell


@DBOS.step()  # type: ignore[untyped-decorator]
async def step(number: int, name: str) -> str:
    """Do as much as the mock backend does: nothing."""
    return f"{name} {number}"


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def workflow(number: int) -> str:
    """Prepare, submit, poll."""
    await step(number, "prepare")
    await step(number, "submit")
    done: str = await step(number, "poll")
    return done


async def main(url: str, total: int, in_flight: int) -> None:
    """Measure."""
    DBOS(
        config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False}
    )
    logging.disable(logging.WARNING)
    DBOS.launch()
    tell(await drive(workflow, total, in_flight))
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
