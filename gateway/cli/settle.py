"""`gateway settle`: say what a run cost of which nobody knew it."""

from __future__ import annotations

import argparse

from gateway.cli.arguments import make_count, parse_name
from gateway.cli.exits import DONE, UsageError
from gateway.cli.stored import find_run
from gateway.cli.words import clean
from gateway.client import AsyncGateway
from gateway.config import parse_money


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take the run, what it cost, and how that is known."""
    parser.add_argument("run_id", metavar="RUN_ID", help="the run's id, or enough of its beginning")
    cost = parser.add_mutually_exclusive_group(required=True)
    cost.add_argument("--cost", metavar="MONEY", help='what it cost: "0.01 USD"')
    cost.add_argument("--not-charged", action="store_true", help="it cost nothing")
    parser.add_argument(
        "--evidence",
        metavar="TEXT",
        type=parse_name,
        required=True,
        help="how you know: an invoice, a transaction",
    )
    parser.add_argument(
        "--attempt", metavar="N", type=make_count(1), help="which attempt, if several are unknown"
    )
    parser.add_argument("--json", action="store_true", help="print the run as JSON")
    parser.set_defaults(call=settle)


async def settle(args: argparse.Namespace) -> int:
    """Write it down, and tell what is known now."""
    try:
        cost = None if args.cost is None else parse_money(args.cost)
    except ValueError as error:
        raise UsageError(f"--cost: {error}") from error
    async with AsyncGateway.from_config(args.config) as gateway:
        run = await find_run(args.run_id, gateway.list_runs, gateway.get)
        run = await gateway.settle(
            run.id, cost=cost, not_charged=args.not_charged, evidence=args.evidence, attempt=args.attempt
        )
    if args.json:
        print(run.model_dump_json().decode())
    else:
        told = "it cost nothing" if cost is None else f"it cost {cost}"
        print(clean(f"{run.id}: {told} ({args.evidence})"))
    return DONE
