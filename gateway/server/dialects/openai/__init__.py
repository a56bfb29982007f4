"""The OpenAI API below /openai/v1: models, chat completions, embeddings.

A model of the catalogue serves what its `[models.NAME.openai]` says. Beside OpenAI's own words a request may
carry `gateway` (in the SDK: `extra_body={"gateway": {...}}`): `backend`, `limits`, `labels`, as in the native
API. The answer's header `x-run-id` names the run. The SDK sends a failed request again on its own; such a
repetition finds the run of the first one, and is not paid for twice.
"""

from __future__ import annotations

from gateway.server.callers import KeyScope
from gateway.server.dialects.openai.chat import create_chat
from gateway.server.dialects.openai.embeddings import create_embeddings
from gateway.server.dialects.openai.models import get_model, list_models
from gateway.server.dialects.openai.words import tell
from gateway.server.routes import Face, Route

PREFIX = "/openai"


def make_face() -> Face:
    """Return the face of the OpenAI API."""
    routes = (
        Route("GET", f"{PREFIX}/v1/models", list_models, KeyScope.READ),
        Route("GET", f"{PREFIX}/v1/models/{{id:path}}", get_model, KeyScope.READ),
        Route("POST", f"{PREFIX}/v1/chat/completions", create_chat, KeyScope.RUN),
        Route("POST", f"{PREFIX}/v1/embeddings", create_embeddings, KeyScope.RUN),
    )
    return Face(PREFIX, routes, tell)
