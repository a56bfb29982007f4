"""A proxy as one writes it by hand: Starlette in front, one httpx client behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_LIMITS = httpx.Limits(max_connections=200, max_keepalive_connections=200)


@asynccontextmanager
async def live(app: Any) -> AsyncIterator[None]:
    """Keep the client as long as the application."""
    async with httpx.AsyncClient(base_url=os.environ["UPSTREAM"], limits=_LIMITS, timeout=60) as client:
        app.state.client = client
        yield


async def serve(request: Request) -> Response:
    """Pass a request on, and its answer back."""
    client: httpx.AsyncClient = request.app.state.client
    body, headers = await request.body(), {"content-type": "application/json"}
    if b'"stream": true' not in body:
        answer = await client.post(request.url.path, content=body, headers=headers)
        return Response(answer.content, answer.status_code, media_type="application/json")
    made = client.build_request("POST", request.url.path, content=body, headers=headers)
    stream = await client.send(made, stream=True)

    async def pass_on() -> AsyncIterator[bytes]:
        try:
            async for chunk in stream.aiter_raw():
                yield chunk
        finally:
            await stream.aclose()

    return StreamingResponse(pass_on(), stream.status_code, media_type="text/event-stream")


app = Starlette(routes=[Route("/{path:path}", serve, methods=["POST"])], lifespan=live)
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
