"""`gateway worker`: work on the runs of a shared store, and do nothing else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from gateway.cli.exits import DONE, UsageError
from gateway.cli.logs import add_log_format, set_up_service_logging
from gateway.clock import SystemClock
from gateway.config import load, make_store_url
from gateway.observe.making import make_traces
from gateway.observe.observer import NOBODY
from gateway.server.keys import KeyBook, keep_learning, list_keys
from gateway.server.making import make_gateway
from gateway.store import make_store


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take how it logs."""
    add_log_format(parser)
    parser.set_defaults(call=work)


async def work(args: argparse.Namespace) -> int:
    """Take over runs that nobody looks after until SIGINT or SIGTERM; then give back what is not done."""
    config, clock = load(args.config), SystemClock()
    if (url := make_store_url(config)) == "memory:":
        raise UsageError('a worker works on what others put into the store, and "memory:" is its own')
    set_up_service_logging(args.log_format or config.observability.logs, debug=args.debug)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows: there Ctrl-C ends it at once
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    keys = KeyBook(
        clock, config.gateway.currency
    )  # their budgets count for their runs, whoever works on them
    traces = make_traces(config.observability)
    gateway = make_gateway(config, make_store(url), clock, keys, traces or NOBODY)
    await gateway.store.open()
    keys.learn(await list_keys(gateway.store.shelf))
    async with gateway:
        learning = asyncio.create_task(keep_learning(keys, gateway.store.shelf, clock))
        print(f"working with {len(gateway.models)} models", flush=True)
        await ended.wait()
        learning.cancel()
        print("giving back what is not done", flush=True)
    return DONE
