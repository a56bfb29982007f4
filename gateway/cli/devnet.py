"""`gateway devnet`: run the stand-ins, and control them from another terminal."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.arguments import make_count, parse_port
from gateway.cli.exits import DONE
from gateway.cli.parser import Parser, add_global_options
from gateway.cli.tables import format_table, get_width
from gateway.cli.words import format_json
from gateway.devnet.faults import Fault, Operation

if TYPE_CHECKING:
    from gateway.types import JSON

_FILE_NAME = "gateway.toml"


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take an order and its words."""
    orders = parser.add_subparsers(title="orders", metavar="ORDER", required=True, parser_class=Parser)
    summaries = {
        "up": "start the stand-ins and write a gateway.toml",
        "down": "end a running devnet",
        "status": "show the stand-ins, what is armed, how much they accepted",
        "journal": "show every submission that was accepted: what would have been billed",
        "fault": "let a stand-in misbehave",
        "clear": "disarm all faults",
        "stop": "take a stand-in away, as if it were killed",
        "start": "start a stopped one again",
        "restart": "restart one: jobs that were running there are forgotten",
    }
    for order, summary in summaries.items():
        one = orders.add_parser(order, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        one.add_argument("--folder", type=Path, default=Path(), help="where the devnet's files are (here)")
        one.set_defaults(call=_up if order == "up" else _tell if order in ("status", "journal") else _order)
        one.set_defaults(order=order)
        if order in ("stop", "start", "restart", "fault"):
            one.add_argument(
                "name", metavar="NAME", help="of the stand-in: node1, hosted, chain, content, bots"
            )
        if order in ("status", "journal"):
            one.add_argument("--json", action="store_true", help="print JSON")
        _add_more(order, one)
        add_global_options(one, config=order != "up")


def _add_more(order: str, parser: argparse.ArgumentParser) -> None:
    if order == "up":
        parser.add_argument("--config", metavar="PATH", default=argparse.SUPPRESS, help="the file to write")
        for port, what in (
            ("node", "the Infernet node"),
            ("api", "the API"),
            ("control", "the control page"),
        ):
            parser.add_argument(
                f"--{port}-port", metavar="N", type=parse_port, default=0, help=f"of {what} (0: a free one)"
            )
        parser.add_argument(
            "--rate-limit",
            metavar="N",
            type=make_count(1),
            help="requests a minute that the node allows (real nodes: 60)",
        )
        chain = parser.add_mutually_exclusive_group()
        chain.add_argument(
            "--chain",
            action="store_const",
            const=True,
            help="fail if there can be no local chain (default: run one if what it needs is installed)",
        )
        chain.add_argument(
            "--no-chain", dest="chain", action="store_const", const=False, help="run no local chain"
        )
        parser.add_argument("--force", action="store_true", help="replace a gateway.toml of yours")
    if order == "fault":
        parser.add_argument(
            "fault", metavar="FAULT", type=_underscored, help=f"{', '.join(Fault)}; the others have more"
        )
        parser.add_argument(
            "--on",
            metavar="OPERATION",
            help=f"{', '.join(Operation)}; chain: a JSON-RPC method, content: pin or read",
        )
        times = parser.add_mutually_exclusive_group()
        times.add_argument("--times", metavar="N", type=make_count(1), default=1, help="so many times (1)")
        times.add_argument("--always", action="store_true", help="until it is cleared")
        parser.add_argument(
            "--skip", metavar="N", type=make_count(0), default=0, help="after N good ones (0)"
        )


def _underscored(word: str) -> str:
    return word.replace("-", "_")


async def _up(args: argparse.Namespace) -> int:
    from gateway.devnet.up import Options, serve

    options = Options(
        config=Path(args.config) if args.config else args.folder / _FILE_NAME,
        node_port=args.node_port,
        api_port=args.api_port,
        control_port=args.control_port,
        rate_limit=args.rate_limit,
        chain=args.chain,
        force=args.force,
    )
    await serve(options, lambda line: print(line, flush=True))
    return DONE


async def _tell(args: argparse.Namespace) -> int:
    from gateway.devnet.control import ask, load_state

    found = await ask(load_state(args.folder), args.order)
    if args.json:
        print(format_json(found))
    elif args.order == "journal":
        print(_format_journal(found))
    else:
        print(_format_status(found))
    return DONE


async def _order(args: argparse.Namespace) -> int:
    from gateway.devnet.control import ask, load_state

    said: dict[str, JSON] = {}
    if args.order in ("stop", "start", "restart", "fault"):
        said["name"] = args.name
    if args.order == "fault":
        times = None if args.always else args.times
        said |= {"fault": args.fault, "on": args.on, "times": times, "skip": args.skip}
    found = await ask(load_state(args.folder), args.order, said)
    print("the devnet ends" if args.order == "down" else _format_status(found))
    return DONE


def _format_status(found: JSON) -> str:
    rows = [
        (
            one["name"],
            one["url"],
            "up" if one["up"] else "STOPPED",
            one["accepted"],
            "; ".join(_format_fault(fault) for fault in one["faults"]) or "none",
        )
        for one in found
    ]
    return format_table(("name", "url", "state", "accepted", "faults"), rows, get_width())


def _format_fault(fault: JSON) -> str:
    on = fault["on"] if isinstance(fault["on"], str) else " or ".join(fault["on"]) or "any"
    times = "always" if fault["times"] is None else f"{fault['times']} x"
    skip = f", after {fault['skip']} good ones" if fault["skip"] else ""
    return f"{fault['fault']} on {on}, {times}{skip}"


def _format_journal(found: JSON) -> str:
    rows = [
        (
            one["backend"],
            one["job_id"],
            datetime.fromtimestamp(one["at"]).astimezone().strftime("%H:%M:%S"),
            json.dumps(one["input"], ensure_ascii=False),
        )
        for one in found
    ]
    return format_table(("backend", "job", "at", "input"), rows, get_width())
