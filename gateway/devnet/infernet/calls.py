"""What an endpoint gets, and what is known about an endpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web

from gateway.devnet.faults import Fault, Operation


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and the fault that strikes it (for the endpoint that has its own part in it)."""

    request: web.BaseRequest
    address: str  # the TCP peer's: a job is seen only from the address from which it came
    fault: Fault | None = None
    headers: Mapping[str, str] = field(
        default_factory=dict
    )  # the rate limit's, for an answer that is streamed


Endpoint: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. Its name is its bucket of the rate limit."""

    name: str
    serve: Endpoint
    operation: Operation = Operation.ANY
    limited: bool = True
