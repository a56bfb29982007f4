"""`gateway serve`: the gateway over HTTP."""

from __future__ import annotations

import argparse

from gateway.cli.exits import DONE, UsageError


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take where to listen."""
    parser.add_argument("--host", metavar="ADDRESS", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", metavar="N", type=int, help="on which port (8080; 0: a free one)")
    parser.set_defaults(call=serve)


async def serve(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    try:
        from gateway.server.serving import serve as serve_http
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing: pip install 'inference-gateway[server]'") from error
    await serve_http(args.config, host=args.host, port=args.port, say=lambda line: print(line, flush=True))
    return DONE
