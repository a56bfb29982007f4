"""`gateway ogpu ...`: sources, money and single tasks of a configured OGPU backend."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

from gateway.cli.arguments import make_count
from gateway.cli.exits import DONE, UsageError
from gateway.cli.parser import add_global_options
from gateway.cli.stored import open_store
from gateway.cli.words import format_json
from gateway.clock import SystemClock
from gateway.config import load
from gateway.registry import make_adapters
from gateway.store.shelf import ShelfNotebook
from gateway.types import JSON, Money

_ADAPTER = "ogpu"
_READS = ("balances", "source", "task", "responses", "watch")  # these sign nothing
_SPEC = {
    "name": "for people",
    "description": "for people",
    "logo-url": "for people",
    "cpu": "URL of the docker-compose file for machines without a GPU",
    "nvidia": "the same for NVIDIA",
    "amd": "the same for AMD",
    "min-payment": 'the least that a task pays, as "0.01 OGPU"',
    "min-lockup": "what a provider must have locked up",
    "max-expiry": 'the longest that a task may take, as "1d"',
    "delivery": "first_response or manual_confirmation",
}
_AMOUNTS = (
    *("wallet", "vault", "lockup", "unbonding", "earnings", "sanction", "min_payment", "min_lockup"),
    *("payment", "frozen", "gas_price", "suggested_payment"),
)
_WORDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "publish-source": ("upload a source's metadata and publish it", ()),
    "update-source": ("put new words in the place of a source's old ones", ("source",)),
    "inactivate-source": ("take a source out of service, for ever", ("source",)),
    "set-agent": ("let an account act for us", ("agent",)),
    "deposit": ("put money into the vault", ("amount",)),
    "withdraw": ("take money out of the vault", ("amount",)),
    "lock": ("lock money of the vault up", ("amount",)),
    "unbond": ("begin to unlock money", ("amount",)),
    "cancel-unbonding": ("lock up again what is being unlocked; testnet's vault has it not", ()),
    "claim": ("take what is unlocked into the free balance", ()),
    "balances": ("show what an account has", ()),
    "source": ("show a source", ("source",)),
    "task": ("show a task", ("task",)),
    "responses": ("show a task's responses", ("task",)),
    "confirm": ("accept a response, which pays its provider", ("response",)),
    "cancel": ("take a task back that nobody has attempted", ("task",)),
    "watch": ("print the network's events as they come", ()),
}


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take one of its words, and what that one takes."""
    words = parser.add_subparsers(dest="word", metavar="WORD", required=True)
    for word, (help_text, positionals) in _WORDS.items():
        one = words.add_parser(word, help=help_text, description=help_text)
        for name in positionals:
            one.add_argument(name)
        if word in ("publish-source", "update-source"):
            for name, about in _SPEC.items():
                one.add_argument(f"--{name}", help=about, required=name in ("name", "min-payment"))
        if word == "balances":
            one.add_argument("--account", help="whose; default: ours")
        if word == "set-agent":
            one.add_argument("--revoke", action="store_true", help="no longer")
        if word == "watch":
            one.add_argument(
                "--since", type=make_count(0), metavar="BLOCK", help="from that block on; default: now"
            )
        one.add_argument("--backend", help="which, if several OGPU backends are configured")
        add_global_options(one)
    parser.set_defaults(call=call)


async def call(args: argparse.Namespace) -> int:
    """Do it, and print what came of it as JSON."""
    adapter = _make_adapter(args.config, args.backend)
    async with AsyncExitStack() as stack:
        if args.word not in _READS:  # its nonces are those of the workers too
            store = await stack.enter_async_context(open_store(args.config))
            adapter.lend(ShelfNotebook(store.shelf))
        client = await stack.enter_async_context(adapter.make_client())
        if args.word == "watch":
            async for event in client.watch(since=args.since):
                print(format_json(_tell(event)), flush=True)
        else:
            print(format_json(_tell(await _act(client, args))))
    return DONE


async def _act(client: Any, args: argparse.Namespace) -> Any:
    """Call the client's method of that word. Deferred, so that each only looks at its own arguments."""
    acts: Mapping[str, Callable[[], Awaitable[Any]]] = {
        "publish-source": lambda: client.publish_source(_make_spec(args)),
        "update-source": lambda: client.update_source(args.source, _make_spec(args)),
        "inactivate-source": lambda: client.inactivate_source(args.source),
        "set-agent": lambda: client.set_agent(args.agent, not args.revoke),
        "deposit": lambda: client.deposit(_parse_amount(args.amount)),
        "withdraw": lambda: client.withdraw(_parse_amount(args.amount)),
        "lock": lambda: client.lock(_parse_amount(args.amount)),
        "unbond": lambda: client.unbond(_parse_amount(args.amount)),
        "cancel-unbonding": client.cancel_unbonding,
        "claim": client.claim,
        "balances": lambda: client.balances(args.account),
        "source": lambda: client.get_source(args.source),
        "task": lambda: client.get_task(args.task),
        "responses": lambda: client.get_task_responses(args.task),
        "confirm": lambda: client.confirm_response(args.response),
        "cancel": lambda: client.cancel_task(args.task),
    }
    return await acts[args.word]()


def _make_spec(args: argparse.Namespace) -> dict[str, str]:
    names = [name.replace("-", "_") for name in _SPEC]
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _make_adapter(config: str | None, name: str | None) -> Any:
    """Make the adapter of the one OGPU backend, or of the named one. Raises UsageError."""
    backends = load(config).backends
    known = [each for each, settings in backends.items() if settings.adapter == _ADAPTER]
    if name is None and len(known) != 1:
        listed = ", ".join(known) or "none"
        raise UsageError(f"--backend says which; configured with the adapter {_ADAPTER}: {listed}")
    chosen = known[0] if name is None else name
    if chosen not in known:
        raise UsageError(f"{chosen!r} is no backend of the adapter {_ADAPTER}; known: {', '.join(known)}")
    return make_adapters({chosen: backends[chosen]}, SystemClock())[chosen]


def _parse_amount(text: str) -> Money:
    try:
        return Money.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _tell(value: Any, name: str = "") -> JSON:
    """Return what JSON can hold of it; amounts are written as money."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _tell(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tell(item) for item in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Enum):
        return value.name
    return str(Money(value, "OGPU")) if name in _AMOUNTS else value
