"""`gateway mcp`: the gateway's tools for assistants."""

from __future__ import annotations

import argparse

from gateway.cli.exits import DONE, UsageError


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take nothing of its own."""
    parser.set_defaults(call=serve)


async def serve(args: argparse.Namespace) -> int:
    """Serve on standard input and output until they end."""
    try:
        from gateway.mcp.serving import serve as serve_tools
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gateway"):
            raise
        raise UsageError(f"{error.name} is missing: pip install 'inference-gateway[mcp]'") from error
    await serve_tools(args.config)
    return DONE
