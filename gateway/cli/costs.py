"""`gateway costs`: what was quoted, is reserved and was settled. Only the store is opened."""

from __future__ import annotations

import argparse
import sys

from gateway.cli.arguments import parse_past
from gateway.cli.exits import DONE
from gateway.cli.stored import open_store
from gateway.cli.tables import format_table, get_width
from gateway.cli.words import format_json
from gateway.store.bill import ALL_BY, BY, BillLine, Total, make_bill

_NOTHING = "nothing"


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take since when, and what the lines are told apart by."""
    parser.add_argument("--since", metavar="TIME", default="7d", help="so long ago: 12h, 7d, 30d (7d)")
    parser.add_argument(
        "--by",
        choices=ALL_BY,
        action="append",
        help="a line for each; may be repeated (for each backend, model and day)",
    )
    parser.add_argument("--key", metavar="NAME", help="only runs of the API key of this name")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call=costs)


async def costs(args: argparse.Namespace) -> int:
    """Show a line for each backend, model and day, and one for all."""
    since = parse_past("--since", args.since)
    by = tuple(dict.fromkeys(args.by or BY))
    async with open_store(args.config) as store:
        entries = await store.ledger.list_entries(since, args.key)
        pruned = await store.ledger.list_pruned(since, args.key)
    lines = make_bill(entries, by, pruned)
    if args.json:
        print(format_json([line.model_dump() for line in lines]))
    elif lines:
        print(format_costs(lines, make_bill(entries, (), pruned), by, get_width()))
    else:
        print(f"nothing was tried in the last {args.since}", file=sys.stderr)
    return DONE


def format_costs(lines: list[BillLine], whole: list[BillLine], by: tuple[str, ...], width: int | None) -> str:
    """Return the bill as a table, with a last line for all."""
    rows = [[*(getattr(line, name) for name in by), *_format_numbers(line)] for line in lines]
    if len(lines) > 1:
        rows += [["all", *[None] * (len(by) - 1), *_format_numbers(line)] for line in whole]
    return format_table((*by, "attempts", "quoted", "reserved", "settled"), rows, width)


def format_total(total: Total) -> str:
    """Return "0.004 USD", "0.004 USD + 2 unknown", "2 unknown" or "nothing"."""
    told = [str(money) for money in total.known]
    told += [f"{total.unknown} unknown"] if total.unknown else []
    return " + ".join(told) or _NOTHING


def _format_numbers(line: BillLine) -> list[str]:
    attempts = f"{line.attempts} ({line.under_way} under way)" if line.under_way else str(line.attempts)
    return [attempts, format_total(line.quoted), format_total(line.reserved), format_total(line.settled)]
