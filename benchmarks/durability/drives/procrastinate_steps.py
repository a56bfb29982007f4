"""Procrastinate: a job of three steps, deferred, and done by a worker in the same process.

It keeps no step: a job whose worker dies is begun anew. Words: database, runs, in flight.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from procrastinate import App, PsycopgConnector

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from benchmarks.durability.drives.measure import drive, tell

app = App(connector=PsycopgConnector(conninfo=sys.argv[1], min_size=4, max_size=20))
ended: dict[int, asyncio.Event] = {}


@app.task(name="three")  # type: ignore[untyped-decorator]
async def three(number: int) -> None:
    """Prepare, submit, poll: nothing, as the mock backend does."""
    ended[number].set()


async def main(total: int, in_flight: int) -> None:
    """Measure, until the task was done; that it is noted as done comes on top."""
    async with app.open_async():
        if not await app.check_connection_async():  # the first round makes the tables
            await app.schema_manager.apply_schema_async()
        working = asyncio.create_task(
            app.run_worker_async(concurrency=in_flight, install_signal_handlers=False)
        )

        async def one(number: int) -> None:
            ended[number] = asyncio.Event()
            await three.defer_async(number=number)
            await ended[number].wait()

        tell(await drive(one, total, in_flight))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2]), int(sys.argv[3])))
