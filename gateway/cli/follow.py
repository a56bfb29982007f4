"""`gateway get`, `watch`, `cancel`, `accept` and `runs`: what became of runs."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from gateway.cli.arguments import make_count, parse_seconds
from gateway.cli.exits import DONE
from gateway.cli.progress import open_view
from gateway.cli.run import follow, show_end
from gateway.cli.stored import find_run, open_store
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
from gateway.errors import InvalidInput, RunFailed, WaitTimeout
from gateway.lifecycle import Phase, Status
from gateway.store.protocol import RunFilter
from gateway.task import Answer, Run


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Take what the command `name` takes."""
    if name == "runs":
        _add_filters(parser)
    else:
        parser.add_argument("run_id", metavar="RUN_ID", help="the run's id, or enough of its beginning")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if name == "watch":
        parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
        parser.add_argument("--timeout", metavar="S", type=parse_seconds, help="wait at most S seconds")
    if name == "accept":
        parser.add_argument("answer_id", metavar="ANSWER_ID", help="of the answer; `gateway get` shows them")
    if name in ("get", "cancel", "accept"):
        seconds = {"get": 2.0, "cancel": 10.0, "accept": 10.0}[name]
        parser.add_argument(
            "--wait",
            metavar="S",
            type=parse_seconds,
            default=seconds,
            help=f"look after it for S seconds ({seconds:g})",
        )
    calls = {"get": get, "watch": watch, "cancel": cancel, "accept": accept, "runs": list_runs}
    parser.set_defaults(call=calls[name])


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--phase", choices=[phase.value for phase in Phase], help="only runs in this phase")
    parser.add_argument("--model", metavar="NAME", help="only runs of this model")
    parser.add_argument("--backend", metavar="NAME", help="only runs whose newest attempt is there")
    parser.add_argument(
        "--limit", metavar="N", type=make_count(1), default=20, help="at most N, newest first (20)"
    )


async def get(args: argparse.Namespace) -> int:
    """Show a run; one that is under way is looked at first."""
    async with open_store(args.config) as store:
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


async def accept(args: argparse.Namespace) -> int:
    """Wish that an answer is accepted, and see whether the run ends with it."""
    async with AsyncGateway.from_config(args.config) as gateway:
        run = await find_run(args.run_id, gateway.list_runs, gateway.get)
        _require_answer(run, args.answer_id)
        await gateway.accept(run.id, args.answer_id)
        run = await _wait_a_little(gateway, run.id, args.wait)
    if run.status.is_final:
        return show_end(run, as_json=args.json)
    if args.json:
        print(run.model_dump_json().decode())
    else:
        print(f"{run.id} is still {run.status.name}; the wish is stored, and whoever works on it sees to it")
    return DONE


def _require_answer(run: Run, answer_id: str) -> None:
    """Raise InvalidInput unless a run has that answer: a wish for another would never come true."""
    if run.status.is_final:
        raise InvalidInput(f"{run.id} had ended {run.status.name} already")
    ids = [answer.id for answer in _get_answers(run)]
    if not ids:
        raise InvalidInput(f"{run.id} has no answer to accept (yet)")
    if answer_id not in ids:
        raise InvalidInput(f"{run.id} has no answer {answer_id!r}; it has: {', '.join(ids)}")


def _get_answers(run: Run) -> tuple[Answer, ...]:
    snapshot = run.attempt.snapshot if run.attempt else None
    return snapshot.answers if snapshot is not None else ()


async def list_runs(args: argparse.Namespace) -> int:
    """List runs, newest first; no backend is asked."""
    which = RunFilter(
        phase=Phase(args.phase) if args.phase else None,
        model=args.model,
        backend=args.backend,
        limit=args.limit,
    )
    async with open_store(args.config) as store:
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
    if not run.status.is_final:
        lines += [_describe_answer(answer) for answer in _get_answers(run)]
    lines += _describe_children(run)
    if run.cancel_requested_at is not None and not run.status.is_final:
        lines.append("somebody wishes to cancel it")
    if run.status is Status.COMPLETED:
        lines.append(f"output    {format_answer(run.output)}")
    return "\n".join(lines)


def _describe_answer(answer: Answer) -> str:
    price = f" for {answer.price}" if answer.price else ""
    what = (
        format_answer(answer.output) if answer.valid else f"can't be accepted: {answer.reason or 'invalid'}"
    )
    return clean(f"answer {answer.id}{price}: {what}")


def _describe_children(run: Run) -> list[str]:
    """Return a line for each run that does this one's task, with whom it agreed."""
    evidence = run.evidence if isinstance(run.evidence, dict) else {}
    told = evidence.get("runs", {})
    lines = []
    for child, backend in zip(run.children, run.children_at, strict=True):
        said = told.get(child, {}).get("status", "under way")
        agreed = next((len(group) for group in evidence.get("groups", []) if child in group), 0)
        whom = f", agrees with {agreed - 1} more" if agreed > 1 else ""
        lines.append(f"copy      {child} at {backend}: {said}{whom}")
    return lines


async def _wait_a_little(gateway: AsyncGateway, run_id: str, seconds: float) -> Run:
    try:
        return await gateway.wait(run_id, timeout=seconds)
    except RunFailed as failed:
        return failed.run
    except WaitTimeout:
        return await gateway.get(run_id)
