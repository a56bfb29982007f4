"""`gateway worker`: work on the runs of a shared store, and do nothing else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from gateway.cli.exits import DONE, UsageError
from gateway.cli.logs import add_log_format, set_up_service_logging
from gateway.client import AsyncGateway
from gateway.config import load, make_store_url


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take how it logs."""
    add_log_format(parser)
    parser.set_defaults(call=work)


async def work(args: argparse.Namespace) -> int:
    """Take over runs that nobody looks after until SIGINT or SIGTERM; then give back what is not done."""
    config = load(args.config)
    if make_store_url(config) == "memory:":
        raise UsageError('a worker works on what others put into the store, and "memory:" is its own')
    set_up_service_logging(args.log_format or config.observability.logs, debug=args.debug)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows: there Ctrl-C ends it at once
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncGateway.from_config(args.config) as gateway:
        print(f"working with {len(gateway.models)} models", flush=True)
        await ended.wait()
        print("giving back what is not done", flush=True)
    return DONE
