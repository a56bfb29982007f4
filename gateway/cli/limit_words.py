"""The words of a command line that set a task's limits, and whose it is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from gateway.cli.arguments import make_count, parse_name
from gateway.cli.exits import UsageError
from gateway.limits import Agree, Explore, Limits, OnDoubt, OnFailed, Sort, WhenAllOpen
from gateway.task import Accept

T = TypeVar("T")
_QUORUM = re.compile(r"\s*([0-9]+)\s*/\s*([0-9]+)\s*")


def add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    """Take every limit that a word can say."""
    _add_choice_of_backends(parser.add_argument_group("which backends"))
    _add_bounds(parser.add_argument_group("how much, and what if"))
    _add_copies(parser.add_argument_group("more than one at once"))


def add_owner_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which answer is accepted, and whose money it is."""
    group = parser.add_argument_group("answers and budgets")
    group.add_argument(
        "--accept",
        choices=get_args(Accept),
        default="first",
        help="of several answers: the first valid one (default), the cheapest, or by hand: `gateway accept`",
    )
    group.add_argument(
        "--key", metavar="NAME", type=parse_name, help="whose it is: budgets with this key count it"
    )


def make_limits(args: argparse.Namespace) -> Limits:
    """Make the limits that the words describe; the library says what contradicts. Raises UsageError."""
    return Limits(**get_given(args))


def get_given(args: argparse.Namespace) -> dict[str, Any]:
    """Return the limits that were given, by name. Raises UsageError."""
    from gateway.config import parse_duration, parse_money

    given = {
        "only": _split(args.only),
        "ignore": _split(args.ignore),
        "order": _split(args.order),
        "require": _split(args.require),
        "sort": args.sort,
        "max_cost": _read(parse_money, args.max_cost, "--max-cost"),
        "value_of_time": _read(parse_money, args.value_of_time, "--value-of-time"),
        "deadline": _read(parse_duration, args.deadline, "--deadline"),
        "max_attempts": args.max_attempts,
        "on_failed": args.on_failed,
        "on_doubt": args.on_doubt,
        "explore": args.explore,
        "when_all_open": args.when_all_open,
        "hedge": args.hedge,
        "quorum": _read(_parse_quorum, args.quorum, "--quorum"),
        "agree": args.agree,
        "idempotent": args.idempotent,
    }
    return {name: value for name, value in given.items() if value is not None}


def _add_choice_of_backends(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--only", metavar="NAMES", help="no other backends: a,b")
    group.add_argument("--ignore", metavar="NAMES", help="not these backends")
    group.add_argument("--order", metavar="NAMES", help="these backends first, in this order")
    group.add_argument("--require", metavar="FEATURES", help="what the backend must have: cancel,recall")
    group.add_argument("--sort", choices=get_args(Sort), help="what the best backend is (balanced)")
    group.add_argument("--value-of-time", metavar="MONEY", help="what an hour of waiting is worth")
    group.add_argument(
        "--explore",
        choices=get_args(Explore),
        help="put untried backends before tried ones: where free (default), cheaper, always, or never",
    )


def _add_bounds(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-cost", metavar="MONEY", help='the most it may cost, as "0.01 USD"')
    group.add_argument("--deadline", metavar="TIME", help="when it must have ended: 30s, 15m, 2h")
    group.add_argument("--max-attempts", metavar="N", type=make_count(1), help="count every attempt anywhere")
    group.add_argument(
        "--on-failed",
        choices=get_args(OnFailed),
        help="after a job failed: stop (default), or try the next",
    )
    group.add_argument(
        "--on-doubt",
        choices=get_args(OnDoubt),
        help="when nobody knows whether it landed: ask on (wait, default), fail, or resubmit",
    )
    group.add_argument(
        "--when-all-open",
        choices=get_args(WhenAllOpen),
        help="when every backend is left alone for now: fail (default), or wait",
    )


def _add_copies(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--idempotent", action="store_true", default=None, help="running it twice does no harm"
    )
    group.add_argument(
        "--hedge", metavar="N", type=int, help="at N backends at once; the first success counts"
    )
    group.add_argument("--quorum", metavar="K/N", help="at N backends; the answer that K agree on counts")
    group.add_argument("--agree", choices=get_args(Agree), help="what agreement is, for --quorum (exact)")


def _split(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _parse_quorum(text: str) -> tuple[int, int]:
    match = _QUORUM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no quorum; write it as 2/3: two of three must agree")
    return int(match[1]), int(match[2])


def _read(parse: Callable[[str], T], text: str | None, option: str) -> T | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
