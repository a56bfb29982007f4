"""`gateway prune` and `gateway export`: the past, forgotten or carried away. Only the store is opened."""

from __future__ import annotations

import argparse
import sys

from gateway.cli.arguments import make_count, parse_past
from gateway.cli.exits import DONE
from gateway.cli.stored import open_store
from gateway.store.archive import Pruning


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Take which runs are meant."""
    if name == "prune":
        _add_prune(parser)
        return
    parser.add_argument("--format", choices=["jsonl"], default="jsonl", help="one run as JSON on each line")
    parser.add_argument("--since", metavar="TIME", help="runs created so long ago or later: 12h, 7d (all)")
    parser.set_defaults(call=export)


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than", metavar="TIME", required=True, help="runs that ended so long ago: 12h, 30d"
    )
    parser.add_argument(
        "--keep", metavar="N", type=make_count(0), default=0, help="but keep the N runs that ended last"
    )
    parser.add_argument(
        "--unresolved", action="store_true", help="also those of which nobody knows what they cost"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say how many there are")
    parser.set_defaults(call=prune)


async def prune(args: argparse.Namespace) -> int:
    """Forget runs that ended long ago; open runs, and sums on the bill, stay."""
    from gateway.engine.cleaning import prune_all

    before = parse_past("--older-than", args.older_than)
    which = Pruning(ended_before=before, keep=args.keep, unresolved=args.unresolved)
    async with open_store(args.config) as store:
        if args.dry_run:
            print(f"{await store.archive.count_prunable(which)} runs would be pruned")
            return DONE
        print(f"{await prune_all(store, which)} runs were pruned")
    return DONE


async def export(args: argparse.Namespace) -> int:
    """Print every run whole, with its attempts and costs, oldest first."""
    since = None if args.since is None else parse_past("--since", args.since)
    async with open_store(args.config) as store:
        async for run in store.archive.export(since=since):
            sys.stdout.write(f"{run.model_dump_json().decode()}\n")
    return DONE
