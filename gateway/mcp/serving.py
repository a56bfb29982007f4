"""Puts the tools behind the Model Context Protocol, by its official library."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.mcp.tools import Tools

P = ParamSpec("P")
R = TypeVar("R")

_INSTRUCTIONS = (
    "Runs inference tasks at backends that may cost money. First quote, show the price, and run only the"
    " quote that was approved: its quote_id allows one attempt, for at most that price."
)


async def serve(config_path: str | Path | None) -> None:
    """Serve the configuration's gateway on standard input and output until they end. Raises ConfigError."""
    clock = SystemClock()
    async with AsyncGateway.from_config(config_path, clock=clock) as gateway:
        await make_server(Tools(gateway, gateway.store.shelf, clock)).run_stdio_async()


def make_server(tools: Tools) -> MCPServer[Any]:
    """Return the protocol's server over the tools."""
    server: MCPServer[Any] = MCPServer("inference-gateway", instructions=_INSTRUCTIONS, log_level="WARNING")
    reads, acts = ToolAnnotations(read_only_hint=True), ToolAnnotations(read_only_hint=False)
    pays = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True)
    for tool, hints in (
        (tools.list_models, reads),
        (tools.quote, reads),
        (tools.run, pays),
        (tools.get, reads),
        (tools.cancel, acts),
    ):
        server.tool(annotations=hints, structured_output=False)(_tell_errors(tool))
    return server


def _tell_errors(tool: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Return a tool whose errors reach the assistant as the sentence that they are."""

    @functools.wraps(tool)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await tool(*args, **kwargs)
        except GatewayError as error:
            raise ToolError(str(error)) from error

    return call
