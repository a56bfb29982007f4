"""`gateway run` and `gateway submit`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from gateway.cli.arguments import parse_name, parse_seconds
from gateway.cli.exits import DONE, UsageError
from gateway.cli.progress import View, open_view
from gateway.cli.task_words import add_task_arguments, get_backend, make_task
from gateway.cli.words import format_answer
from gateway.client import AsyncGateway
from gateway.errors import RunFailed, WaitTimeout
from gateway.lifecycle import AttemptStatus, Status
from gateway.task import Event, Run

_LANDING_SECONDS = 15.0


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Take what the command `name` takes."""
    add_task_arguments(parser)
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        type=parse_name,
        help="your own word for this task: given again, it is the same run",
    )
    shown = parser.add_argument_group("what is shown")
    shown.add_argument(
        "--json", action="store_true", help="print the run as JSON, and nothing else on stdout"
    )
    shown.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    if name == "submit":
        parser.set_defaults(call=submit)
        return
    shown.add_argument("--stream", action="store_true", help="print pieces of the answer as they come")
    shown.add_argument(
        "--timeout", metavar="S", type=parse_seconds, help="wait at most S seconds; the run goes on"
    )
    parser.set_defaults(call=run)


async def run(args: argparse.Namespace) -> int:
    """Run a task to its end."""
    if args.stream and args.json:
        raise UsageError("--stream and --json both want standard output: choose one")
    task = make_task(args, stream=args.stream)
    async with AsyncGateway.from_config(args.config) as gateway:
        begun = await gateway.submit(
            task, get_backend(args), idempotency_key=args.idempotency_key, api_key=args.key
        )
        pieces = _Pieces(args.stream)
        async with open_view(quiet=args.quiet) as view:
            ended = await follow(gateway, begun, view, args.timeout, pieces)
            pieces.finish()
            view.end(ended)
    return show_end(ended, as_json=args.json, pieces=pieces)


async def submit(args: argparse.Namespace) -> int:
    """Give a task away: it is stored, sent, and then left to its backend."""
    task = make_task(args)
    async with AsyncGateway.from_config(args.config) as gateway:
        begun = await gateway.submit(
            task, get_backend(args), idempotency_key=args.idempotency_key, api_key=args.key
        )
        if not args.json:
            print(begun.id, flush=True)
        async with open_view(quiet=args.quiet) as view:
            left = await _wait_until_sent(gateway, begun, view)
        if args.json:
            print(left.model_dump_json().decode())
        if left.status.is_final and left.status is not Status.COMPLETED:
            raise RunFailed(left)
    return DONE


async def follow(
    gateway: AsyncGateway, run: Run, view: View, timeout: float | None = None, pieces: _Pieces | None = None
) -> Run:
    """Show a run's events up to its end and return it then.

    Raises:
        WaitTimeout: the time is over and the run goes on.
    """
    view.begin(run)
    try:
        async with asyncio.timeout(timeout):
            async for event in gateway.events(run.id):
                if event.kind == "piece" and pieces is not None and pieces.wanted:
                    view.pause()
                    pieces.write(event)
                else:
                    view.take(event)
    except TimeoutError:
        view.pause()
        raise WaitTimeout(f"{timeout:g} s are over; {tell_how_to_go_on(run.id)}", run_id=run.id) from None
    except asyncio.CancelledError:
        view.pause()
        print(f"gateway: {tell_how_to_go_on(run.id)}", file=sys.stderr, flush=True)
        raise
    return await gateway.get(run.id)


def tell_how_to_go_on(run_id: str) -> str:
    """Return the sentence for somebody who stops waiting."""
    return f"the run goes on: `gateway watch {run_id}` follows it, `gateway cancel {run_id}` ends it"


def show_end(run: Run, *, as_json: bool, pieces: _Pieces | None = None) -> int:
    """Print a run that has ended. Returns the exit status, or raises RunFailed for its sentence."""
    if as_json:
        print(run.model_dump_json().decode())
    elif run.status is Status.COMPLETED and not (pieces is not None and pieces.written):
        print(format_answer(run.output))
    if run.status is not Status.COMPLETED:
        raise RunFailed(run)
    return DONE


async def _wait_until_sent(gateway: AsyncGateway, run: Run, view: View) -> Run:
    """Wait until a run's submission has landed, or it ended, but not for ever."""
    try:
        async with asyncio.timeout(_LANDING_SECONDS):
            await _follow_until_sent(gateway, run, view)
            for child in run.children:
                if not (await gateway.get(run.id)).status.is_final:
                    await _follow_until_sent(gateway, await gateway.get(child), view)
    except TimeoutError:
        print(f"gateway: it is not sent yet; {tell_how_to_go_on(run.id)}", file=sys.stderr)
    return await gateway.get(run.id)


async def _follow_until_sent(gateway: AsyncGateway, run: Run, view: View) -> None:
    """Show a run's events until it has landed; a run with copies is on its way once these are."""
    async for event in gateway.events(run.id):
        view.take(event)
        has_copies = bool(run.children) and event.status is Status.DISPATCHED
        if has_copies or (event.kind == "attempt" and event.message == AttemptStatus.SUBMITTED):
            return


class _Pieces:
    """Writes pieces of an answer on stdout as they come."""

    def __init__(self, wanted: bool) -> None:  # noqa: FBT001  it is what its name says
        self.wanted = wanted
        self.written = False
        self._ends_line = True

    def write(self, event: Event) -> None:
        """Write one piece: bytes and texts as they stand, all else as one line of JSON."""
        data = _encode_piece(event)
        self.written = True
        self._ends_line = data.endswith(b"\n")
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def finish(self) -> None:
        """End the last line."""
        if not self._ends_line:
            self._ends_line = True
            print(flush=True)


def _encode_piece(event: Event) -> bytes:
    if event.data is not None:
        return event.data
    piece = event.piece
    texts = list(piece.values()) if isinstance(piece, dict) else [piece]
    if len(texts) == 1 and isinstance(texts[0], str):  # {"response": " word"}
        return texts[0].encode(errors="replace")
    return json.dumps(piece, ensure_ascii=False).encode() + b"\n"
