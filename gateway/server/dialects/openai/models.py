"""The models that speak this API."""

from __future__ import annotations

from gateway.catalogue import Model
from gateway.server.dialects.openai.words import find_model
from gateway.server.wire import Answer, Request, answer_json
from gateway.types import JSON


async def list_models(request: Request) -> Answer:
    """List them."""
    models = request.service.gateway.models.values()
    return answer_json({"object": "list", "data": [_view(model) for model in models if model.shapes]})


async def get_model(request: Request) -> Answer:
    """Show one."""
    return answer_json(_view(find_model(request, request.params["id"])))


def _view(model: Model) -> dict[str, JSON]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "gateway"}
