"""What can be looked at beside runs: backends, models."""

from __future__ import annotations

from gateway.server.callers import KeyScope
from gateway.server.routes import Operation, Route
from gateway.server.wire import Answer, Request, answer_json


async def list_backends(request: Request) -> Answer:
    """Ask every backend what it is and can."""
    found = await request.service.gateway.backends()
    return answer_json({"backends": found})


async def list_models(request: Request) -> Answer:
    """Show the catalogue; no backend is asked."""
    models = request.service.gateway.models
    listed = [
        {
            "name": name,
            "description": model.description,
            "targets": {target.backend: dict(target.words) for target in model.targets.values()},
        }
        for name, model in models.items()
    ]
    return answer_json({"models": listed})


ROUTES = (
    Route(
        "GET", "/v1/backends", list_backends, KeyScope.READ, Operation("List the backends and their health")
    ),
    Route("GET", "/v1/models", list_models, KeyScope.READ, Operation("List the models and their targets")),
)
