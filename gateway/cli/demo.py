"""`gateway demo`: real sentences through a devnet, and what the gateway does when things go wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.cli.demo_steps import BrokenPromise, Stage, Step, list_steps
from gateway.cli.exits import DONE, RUN_FAILED
from gateway.cli.tables import format_table, get_width
from gateway.cli.words import (
    SHORT_ID,
    format_backends,
    format_cost,
    format_passed,
    format_seconds,
    get_seconds,
)
from gateway.client import AsyncGateway
from gateway.task import Run

_INTRO = """\
This demo starts stand-ins on this machine: an Infernet node ("node1"), an inference.sh API ("hosted"), and
OGPU on a local chain ("chain"). All run a real model, VADER, which rates the sentiment of a text from -1
to +1. Their wires, and their failures, are those of the real backends. Nothing leaves this machine, and
no account is needed.
"""


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take nothing."""
    parser.set_defaults(call=demo)


async def demo(_args: argparse.Namespace) -> int:
    """Play every step; exit 0 only if each showed what it promised."""
    from gateway.devnet.up import open_devnet

    begun = time.monotonic()
    _say(_INTRO)
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        config = Path(folder) / "gateway.toml"
        async with open_devnet(chain=None, block_seconds=None) as devnet:
            if devnet.chainless:
                _say(f"Without a chain this time, and without its step: {devnet.chainless}\n")
            devnet.write_config(config)
            async with AsyncGateway.from_config(config) as gateway:
                stage = Stage(gateway, devnet.network, _say)
                try:
                    await _play(stage, list_steps(with_chain=devnet.chainless is None))
                except BrokenPromise as broken:
                    print(f"gateway: the demo did not show what it promised: {broken}", file=sys.stderr)
                    return RUN_FAILED
                _say(_format_runs([await gateway.get(run_id) for run_id in stage.run_ids]))
    _say(f"\nEvery step did what it said, in {format_seconds(time.monotonic() - begun)}.")
    _say("Next: `gateway devnet up` keeps the stand-ins running, for you to try.")
    return DONE


async def _play(stage: Stage, steps: Sequence[Step]) -> None:
    for number, step in enumerate(steps, start=1):
        _say(f"--- {number} of {len(steps)}: {step.title}")
        _say(step.why)
        await step.play(stage)
        _say("")


def _format_runs(runs: list[Run]) -> str:
    rows = [
        (
            run.id[:SHORT_ID],
            format_backends(run),
            len(run.attempts),
            format_passed(run),
            format_seconds(get_seconds(run)),
            format_cost(run),
        )
        for run in runs
    ]
    head = ("run", "backend", "attempts", "statuses passed", "time", "cost")
    return f"All runs of this demo:\n{format_table(head, rows, get_width())}"


def _say(text: str) -> None:
    print(text, flush=True)
