"""/openapi.json, made from the routing table, and /problems/...: what each problem means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.server.problems import KINDS, NO_ROUTE, REFUSALS, Kind, Refusal
from gateway.server.routes import Operation, Route
from gateway.server.schemas import REF, make_components, make_input_schemas
from gateway.server.wire import JSON_TYPE, Answer, Request, Response, answer_json, encode

_ALWAYS = (400, 401, 403, 408, 413, 415, 421, 422, 429, 500, 503)
_made: dict[int, bytes] = {}
_NO_NUL = r"^[^\u0000]*$"


async def show_openapi(request: Request) -> Answer:
    """Describe the API."""
    table = request.scope["gateway.table"]
    if id(table) not in _made:
        _made[id(table)] = encode(make_document(table.routes))
    return Response(200, _made[id(table)], (JSON_TYPE,))


async def show_problem(request: Request) -> Answer:
    """Say what a kind of problem means."""
    for kind in _list_kinds():
        if kind.slug == request.params["slug"]:
            return answer_json({"type": f"/problems/{kind.slug}", "title": kind.title, "status": kind.status})
    raise Refusal(NO_ROUTE, "there is no such kind of problem")


def _list_kinds() -> list[Kind]:
    return [*KINDS.values(), *REFUSALS]


def make_document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes that have an operation."""
    described = [(route, route.operation) for route in routes if route.operation is not None]
    paths: dict[str, dict[str, Any]] = {}
    bodies: dict[str, Any] = {}
    for route, operation in described:
        paths.setdefault(route.template, {})[route.method.lower()] = _describe(route, operation)
        if operation.body is not None:
            bodies[operation.body.__name__] = operation.body
    from importlib.metadata import version

    return {
        "openapi": "3.1.0",
        "info": {"title": "Inference gateway", "version": version("inference-gateway")},
        "paths": paths,
        "components": {
            "schemas": {**make_input_schemas(bodies), **make_components()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _describe(route: Route, operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": route.handle.__name__,
        "summary": operation.summary,
        "parameters": [*_list_path(route), *_list_query(operation), *_list_headers(operation)],
        "responses": _list_answers(operation),
    }
    if route.scope is None:
        told["security"] = []
    if operation.body is not None:
        schema = {"$ref": REF.format(model=operation.body.__name__)}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return told


def _list_path(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)", route.template)
    schema = {"type": "string", "pattern": "^[^/\\u0000]+$", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _list_query(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema(mode="validation", ref_template=REF)
    parts = schema.get("$defs", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _inline(one, parts)}
        for name, one in schema["properties"].items()
    ]


def _inline(schema: Any, parts: dict[str, Any]) -> Any:
    """Return a query's schema with its references resolved, and texts as an address can have them."""
    if isinstance(schema, list):
        return [_inline(item, parts) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(parts[schema["$ref"].rpartition("/")[2]], parts)
    if schema.get("type") == "string" and not schema.keys() & {"enum", "const", "format", "pattern"}:
        return {**schema, "pattern": _NO_NUL}
    return {name: _inline(item, parts) for name, item in schema.items()}


def _list_headers(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": told, "schema": schema}
        for name, (told, schema) in operation.headers.items()
    ]


def _list_answers(operation: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status in operation.status:
        answers[str(status)] = {"description": operation.summary}
        if operation.answer is not None and status != 204:
            schema = {"schema": {"$ref": REF.format(model=operation.answer)}}
            answers[str(status)]["content"] = {
                kind: schema if kind == "application/json" else {} for kind in operation.content_types
            }
        if operation.leads_to:
            answers[str(status)]["links"] = {
                name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
                for name in operation.leads_to
            }
    problem = {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}}
    for status in sorted({*_ALWAYS, *operation.problems}):
        answers[str(status)] = {"description": "a problem", "content": problem}
    return answers


ROUTES = (
    Route("GET", "/openapi.json", show_openapi, None),
    Route("GET", "/problems/{slug}", show_problem, None),
)
