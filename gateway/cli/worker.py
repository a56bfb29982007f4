"""`gateway worker`: work on the runs of a shared store, and do nothing else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from gateway.cli.exits import DONE, UsageError
from gateway.clock import SystemClock
from gateway.config import load, make_store_url
from gateway.server.keys import KeyBook, keep_learning, list_keys
from gateway.server.making import make_gateway
from gateway.store import make_store


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take nothing of its own."""
    parser.set_defaults(call=work)


async def work(args: argparse.Namespace) -> int:
    """Take over runs that nobody looks after until SIGINT or SIGTERM; then give back what is not done."""
    config, clock = load(args.config), SystemClock()
    if (url := make_store_url(config)) == "memory:":
        raise UsageError('a worker works on what others put into the store, and "memory:" is its own')
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows: there Ctrl-C ends it at once
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    keys = KeyBook(
        clock, config.gateway.currency
    )  # their budgets count for their runs, whoever works on them
    gateway = make_gateway(config, make_store(url), clock, keys)
    await gateway.store.open()
    keys.learn(await list_keys(gateway.store.shelf))
    async with gateway:
        learning = asyncio.create_task(keep_learning(keys, gateway.store.shelf, clock))
        print(f"working with {len(gateway.models)} models", flush=True)
        await ended.wait()
        learning.cancel()
        print("giving back what is not done", flush=True)
    return DONE
