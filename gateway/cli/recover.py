"""`gateway recover`: finish what a dead process left behind."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from gateway.cli.arguments import parse_seconds
from gateway.cli.exits import DONE, RUN_FAILED
from gateway.cli.tables import format_table, get_width
from gateway.cli.words import format_cost, format_json
from gateway.client import AsyncGateway
from gateway.engine.recovery import Recovered, tell_done
from gateway.errors import RunFailed, WaitTimeout
from gateway.lifecycle import Phase
from gateway.task import Run

_LEFT_ALONE = "left alone"


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take how long to stay with the runs."""
    parser.add_argument(
        "--timeout", metavar="S", type=parse_seconds, help="stay at most S seconds (default: to the end)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call=recover)


async def recover(args: argparse.Namespace) -> int:
    """Take over every open run that no living process looks after, and follow them to their ends."""
    began = datetime.now(UTC)
    async with AsyncGateway.from_config(args.config) as gateway:
        found = await gateway.recover()
        for one in found:
            print(f"{one.run_id}: was {one.found}; {one.action}", file=sys.stderr)
        ours = [one for one in found if not one.action.startswith(_LEFT_ALONE)]
        ended = await asyncio.gather(*(_wait(gateway, one.run_id, args.timeout) for one in ours))
        done: dict[str, str] = {run.id: await _tell_done(gateway, run, began) for run in ended}
    _show(found, {run.id: run for run in ended}, done, as_json=args.json)
    return RUN_FAILED if any(run.status.phase is Phase.FAILED for run in ended) else DONE


def _show(found: list[Recovered], ended: dict[str, Run], done: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        lines = [
            {
                **one.model_dump(),
                "done": done.get(one.run_id),
                "status": ended[one.run_id].status.name if one.run_id in ended else None,
            }
            for one in found
        ]
        print(format_json(lines))
        return
    if not found:
        print("nothing to recover: every run has ended or is being worked on")
        return
    rows = [
        (
            one.run_id,
            one.backend,
            one.found,
            done.get(one.run_id),
            ended[one.run_id].status.name if one.run_id in ended else one.action,
            format_cost(ended[one.run_id]) if one.run_id in ended else None,
        )
        for one in found
    ]
    print(format_table(("run", "backend", "was", "found and done", "is", "cost"), rows, get_width()))


async def _tell_done(gateway: AsyncGateway, run: Run, since: datetime) -> str:
    if not run.status.is_final:
        return "it goes on"
    return tell_done([event async for event in gateway.events(run.id)], since)


async def _wait(gateway: AsyncGateway, run_id: str, timeout: float | None) -> Run:
    try:
        return await gateway.wait(run_id, timeout=timeout)
    except RunFailed as failed:
        return failed.run
    except WaitTimeout:
        return await gateway.get(run_id)
