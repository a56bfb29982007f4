"""`gateway serve`: the gateway over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import gc

from gateway.cli.arguments import make_count, parse_port
from gateway.cli.exits import DONE, UsageError
from gateway.cli.logs import add_log_format, set_up_service_logging


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take where to listen."""
    parser.add_argument("--host", metavar="ADDRESS", help="where to listen (server.host: 127.0.0.1)")
    parser.add_argument(
        "--port", metavar="N", type=parse_port, help="on which port (server.port: 8080; 0: a free one)"
    )
    parser.add_argument(
        "--workers", metavar="N", type=make_count(1), help="so many processes (server.workers: 1)"
    )
    parser.add_argument("--fd", type=make_count(0), help=argparse.SUPPRESS)  # of --workers, for each of them:
    parser.add_argument("--door", help=argparse.SUPPRESS)  # the socket to listen on, and that of the others
    add_log_format(parser)
    parser.set_defaults(call=serve, loop_factory=make_loop)


def make_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    gc.disable()  # until it listens: nearly all that is made before then stays
    try:
        return await _serve(args)
    finally:
        gc.enable()


async def _serve(args: argparse.Namespace) -> int:
    try:
        from gateway.server.serving import serve as serve_one
        from gateway.server.workers import serve_many
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gateway"):
            raise
        raise UsageError(f"{error.name} is missing: pip install 'inference-gateway[server]'") from error
    from gateway.config import load

    config = load(args.config)
    set_up_service_logging(args.log_format or config.observability.logs, debug=args.debug)
    workers = config.server.workers if args.workers is None else args.workers
    if workers > 1 and args.fd is None:
        more = [] if args.log_format is None else ["--log-format", args.log_format]
        await serve_many(args.config, host=args.host, port=args.port, workers=workers, more=more, say=_say)
    else:
        say = _say if args.fd is None else _say_nothing
        await serve_one(
            args.config, host=args.host, port=args.port, workers=workers, fd=args.fd, door=args.door, say=say
        )
    return DONE


def _say(line: str) -> None:
    gc.enable()
    print(line, flush=True)


def _say_nothing(_: str) -> None:
    gc.enable()  # the parent process has said it
