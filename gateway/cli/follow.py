"""`gateway get`, `watch`, `cancel` and `runs`: what became of runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.exits import DONE, UsageError
from gateway.cli.progress import open_view
from gateway.cli.run import follow, show_end
from gateway.cli.tables import format_table, get_width
from gateway.cli.words import (
    SHORT_ID,
    clean,
    format_answer,
    format_backends,
    format_cost,
    format_passed,
    format_seconds,
    get_seconds,
)
from gateway.client import AsyncGateway
from gateway.errors import RunFailed, RunNotFound, WaitTimeout
from gateway.lifecycle import Phase, Status
from gateway.store.protocol import RunFilter
from gateway.task import Run

if TYPE_CHECKING:
    from gateway.store.protocol import Store

_FULL_ID = 36
_SEARCHED = 2000


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Take what the command `name` takes."""
    if name == "runs":
        _add_filters(parser)
    else:
        parser.add_argument("run_id", metavar="RUN_ID", help="the run's id, or enough of its beginning")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if name == "watch":
        parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
        parser.add_argument("--timeout", metavar="S", type=float, help="wait at most S seconds")
    if name in ("get", "cancel"):
        seconds = {"get": 2.0, "cancel": 10.0}[name]
        parser.add_argument(
            "--wait",
            metavar="S",
            type=float,
            default=seconds,
            help=f"look after it for S seconds ({seconds:g})",
        )
    parser.set_defaults(call={"get": get, "watch": watch, "cancel": cancel, "runs": list_runs}[name])


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--phase", choices=[phase.value for phase in Phase], help="only runs in this phase")
    parser.add_argument("--model", metavar="NAME", help="only runs of this model")
    parser.add_argument("--backend", metavar="NAME", help="only runs whose newest attempt is there")
    parser.add_argument("--limit", metavar="N", type=int, default=20, help="at most N, newest first (20)")


async def get(args: argparse.Namespace) -> int:
    """Show a run; one that is under way is looked at first."""
    async with _open_store(args.config) as store:
        run = await find_run(args.run_id, store.list_runs, store.get)
    if not run.status.is_final and args.wait > 0:
        async with AsyncGateway.from_config(args.config) as gateway:
            run = await _wait_a_little(gateway, run.id, args.wait)
    print(run.model_dump_json().decode() if args.json else describe_run(run))
    if run.status.phase is Phase.FAILED:
        raise RunFailed(run)
    return DONE


async def watch(args: argparse.Namespace) -> int:
    """Follow a run to its end, wherever it is worked on, and print its answer."""
    async with AsyncGateway.from_config(args.config) as gateway:
        begun = await find_run(args.run_id, gateway.list_runs, gateway.get)
        async with open_view(quiet=args.quiet) as view:
            ended = await follow(gateway, begun, view, args.timeout)
            view.end(ended)
    return show_end(ended, as_json=args.json)


async def cancel(args: argparse.Namespace) -> int:
    """Wish for a run's end, and see whether it comes."""
    async with AsyncGateway.from_config(args.config) as gateway:
        run = await find_run(args.run_id, gateway.list_runs, gateway.get)
        had_ended = run.status.is_final
        if not had_ended:
            await gateway.cancel(run.id)
            run = await _wait_a_little(gateway, run.id, args.wait)
    if args.json:
        print(run.model_dump_json().decode())
    elif had_ended:
        print(f"{run.id} had ended {run.status.name} already")
    elif run.status.is_final:
        why = f": {run.failure.message}" if run.failure else ", before the wish to cancel came through"
        print(clean(f"{run.id} is {run.status.name}{why}"))
    else:
        print(f"{run.id} is still {run.status.name}; the wish is stored, and whoever works on it sees to it")
    return DONE


async def list_runs(args: argparse.Namespace) -> int:
    """List runs, newest first; no backend is asked."""
    if args.limit < 1:
        raise UsageError("--limit is at least 1")
    which = RunFilter(
        phase=Phase(args.phase) if args.phase else None,
        model=args.model,
        backend=args.backend,
        limit=args.limit,
    )
    async with _open_store(args.config) as store:
        runs = await store.list_runs(which)
    if args.json:
        print(f"[{', '.join(run.model_dump_json().decode() for run in runs)}]")
    elif runs:
        print(format_runs(runs))
    else:
        print("there are no such runs", file=sys.stderr)
    return DONE


def format_runs(runs: list[Run]) -> str:
    """Return a table of runs; the ids are short on a terminal."""
    width = get_width()
    now = datetime.now(UTC)
    rows = [
        (
            run.id if width is None else run.id[:SHORT_ID],
            run.task.model or "(own target)",
            run.status.name,
            format_backends(run),
            len(run.attempts),
            f"{format_seconds((now - run.created_at).total_seconds())} ago",
            format_seconds(get_seconds(run, now)),
            format_cost(run),
        )
        for run in runs
    ]
    head = ("run", "model", "status", "backend", "attempts", "begun", "took", "cost")
    return format_table(head, rows, width)


def describe_run(run: Run) -> str:
    """Return a run's story in lines."""
    lines = [
        f"run       {run.id}",
        f"model     {run.task.model or '(own target)'}",
        f"status    {run.status.name}",
        f"passed    {format_passed(run)}",
        f"took      {format_seconds(get_seconds(run))}",
        f"cost      {format_cost(run)}",
    ]
    for attempt in run.attempts:
        job = f", job {attempt.handle.job_id}" if attempt.handle else ""
        why = f": {attempt.failure.message}" if attempt.failure else ""
        lines.append(clean(f"attempt {attempt.number} at {attempt.backend}{job}: {attempt.status}{why}"))
    if run.cancel_requested_at is not None and not run.status.is_final:
        lines.append("somebody wishes to cancel it")
    if run.status is Status.COMPLETED:
        lines.append(f"output    {format_answer(run.output)}")
    return "\n".join(lines)


async def find_run(
    text: str,
    list_runs: Callable[[RunFilter], Awaitable[list[Run]]],
    get_run: Callable[[str], Awaitable[Run]],
) -> Run:
    """Return the run of an id, or of a beginning that only one of the newer runs has.

    Raises:
        RunNotFound: none, or more than one.
    """
    if len(text) >= _FULL_ID:
        return await get_run(text)
    with suppress(RunNotFound):
        return await get_run(text)
    found = [run for run in await list_runs(RunFilter(limit=_SEARCHED)) if run.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunNotFound(f"there is no run {text}; `gateway runs` lists them", run_id=text)
    raise RunNotFound(f"{len(found)} runs begin with {text}: say more of the id", run_id=text)


async def _wait_a_little(gateway: AsyncGateway, run_id: str, seconds: float) -> Run:
    try:
        return await gateway.wait(run_id, timeout=seconds)
    except RunFailed as failed:
        return failed.run
    except WaitTimeout:
        return await gateway.get(run_id)


@asynccontextmanager
async def _open_store(config_path: str | None) -> AsyncIterator[Store]:
    """Open the configured store only: reading it needs no backend and takes over no run."""
    from gateway.config import load, make_store_url
    from gateway.store import make_store

    store = make_store(make_store_url(load(config_path)))
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()
