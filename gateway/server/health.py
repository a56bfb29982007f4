"""/healthz: the process answers. /readyz: it can take work."""

from __future__ import annotations

from gateway.server.routes import Operation, Route
from gateway.server.wire import Answer, Request, answer_json


async def tell_alive(_: Request) -> Answer:
    """Say that the process lives, whatever else is wrong."""
    return answer_json({"status": "ok"})


async def tell_ready(request: Request) -> Answer:
    """Say whether new runs are taken: the store reads and writes, and the server is not shutting down."""
    from gateway.errors import StoreError
    from gateway.store.protocol import RunFilter

    service = request.service
    service.require_open()
    await service.gateway.list_runs(RunFilter(limit=1))
    if not service.gateway.hosting.is_believed:
        raise StoreError("the store has not taken a sign of life for too long")
    return answer_json({"status": "ready"})


ROUTES = (
    Route("GET", "/healthz", tell_alive, None, Operation("Say that the process lives", answer="Health")),
    Route(
        "GET",
        "/readyz",
        tell_ready,
        None,
        Operation("Say whether new runs are taken", answer="Health", problems=(503,)),
    ),
)
