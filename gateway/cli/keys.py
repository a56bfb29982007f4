"""`gateway keys`: who may use the server. Only the store is opened."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.exits import DONE, UsageError
from gateway.cli.parser import Parser, add_global_options
from gateway.cli.stored import open_store
from gateway.cli.tables import format_table, get_width
from gateway.cli.words import format_json

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.engine.key_budgets import KeyBudget
    from gateway.server.keys import ApiKey
    from gateway.types import JSON

_SCOPES = ("read", "run", "admin")


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take an order and its words."""
    orders = parser.add_subparsers(title="orders", metavar="ORDER", required=True, parser_class=Parser)
    create = orders.add_parser("create", help="make a key and print it: it is shown this once")
    create.add_argument("name", metavar="NAME", help="whose it is; its runs and budgets go by this name")
    create.add_argument(
        "--scope", choices=_SCOPES, action="append", help="what it may do; may be repeated (read and run)"
    )
    create.add_argument(
        "--budget",
        metavar="MONEY/PER",
        action="append",
        default=[],
        help='what its runs may cost: "5 USD/day", "100 USD/total", "0.1 USD/run"; may be repeated',
    )
    create.add_argument("--rate", metavar="RATE", help="so many requests in a time: 5/s, 100/m, 1000/h")
    create.set_defaults(call=create_one)
    show = orders.add_parser("list", help="show all keys, without what they are")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(call=list_all)
    for order, call, what in (
        ("revoke", revoke_one, "let a key open nothing any more"),
        ("secret", show_secret, "print what the webhooks of a key's runs are signed with"),
    ):
        one = orders.add_parser(order, help=what)
        one.add_argument("name", metavar="NAME", help="of the key")
        one.set_defaults(call=call)
    for one in orders.choices.values():
        add_global_options(one)


async def create_one(args: argparse.Namespace) -> int:
    """Make a key; the key alone goes to standard output."""
    from gateway.server.callers import KeyScope
    from gateway.server.keys import create_key

    config = _load(args)
    budgets = [_read_budget(text, config.gateway.currency) for text in args.budget]
    async with open_store(args.config) as store:
        key = await create_key(
            store.shelf,
            args.name,
            now=datetime.now(UTC),
            scopes=[KeyScope(scope) for scope in dict.fromkeys(args.scope or ("read", "run"))],
            budgets=budgets,
            rate=args.rate,
        )
    print(key)
    print("gateway: keep it: only its hash is stored, and it is not shown again", file=sys.stderr)
    return DONE


def _load(args: argparse.Namespace) -> Config:
    """Read the configuration; refuse a store that ends with this process."""
    from gateway.config import load, make_store_url

    config = load(args.config)
    if make_store_url(config) == "memory:":
        raise UsageError('keys live in the store, and "memory:" ends with each process: set gateway.store')
    return config


def _read_budget(text: str, currency: str) -> KeyBudget:
    from gateway.engine.key_budgets import parse_budget

    try:
        budget = parse_budget(text)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from error
    if budget.limit.asset != currency:
        raise UsageError(f"--budget: {budget.limit} is not in the reporting currency {currency}")
    return budget


async def list_all(args: argparse.Namespace) -> int:
    """Show every key, revoked ones included."""
    from gateway.server.keys import list_keys

    _load(args)
    async with open_store(args.config) as store:
        keys = await list_keys(store.shelf)
    if args.json:
        print(format_json([_encode(key) for key in keys]))
    elif keys:
        head = ("name", "id", "scopes", "budgets", "rate", "made", "revoked")
        rows = [
            (
                key.name,
                key.id,
                ", ".join(key.scopes),
                ", ".join(map(str, key.budgets)),
                key.rate,
                f"{key.created_at:%Y-%m-%d %H:%M}",
                f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else None,
            )
            for key in keys
        ]
        print(format_table(head, rows, get_width()))
    else:
        print(
            "there are no keys: the server listens on loopback only, open to whoever is there",
            file=sys.stderr,
        )
    return DONE


def _encode(key: ApiKey) -> JSON:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "budgets": [str(budget) for budget in key.budgets],
        "rate": key.rate,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


async def revoke_one(args: argparse.Namespace) -> int:
    """End a key; running servers know it within seconds."""
    from gateway.server.keys import revoke_key

    _load(args)
    async with open_store(args.config) as store:
        await revoke_key(store.shelf, args.name, now=datetime.now(UTC))
    print(f"{args.name} opens nothing any more", file=sys.stderr)
    return DONE


async def show_secret(args: argparse.Namespace) -> int:
    """Print the secret of a key's webhooks."""
    from gateway.server.webhooks import make_secret

    secret = _load(args).server.webhook_secret
    if secret is None:
        raise UsageError("server.webhook_secret is not set: there are no webhooks")
    print(make_secret(secret.get_secret_value(), args.name))
    return DONE
