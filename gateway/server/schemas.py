"""JSON Schemas of what the native API answers: the gateway's values as `gateway.server.views` shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from gateway.adapter import Capabilities
from gateway.lifecycle import Status
from gateway.policy.routing import Plan
from gateway.server.bodies import DURATION_SCHEMA, PRICE_SCHEMA
from gateway.server.views import HIDDEN, ONLY_WHOLE
from gateway.store.bill import BillLine
from gateway.task import Event, Quote, Run
from gateway.types import JSON

Schema = dict[str, Any]
REF = "#/components/schemas/{model}"

MONEY: Schema = {"type": "string", "examples": ["0.002 USD"], "description": "an exact amount and its asset"}
DURATION: Schema = {"type": "string", "pattern": r"^-?[0-9.e+-]+s$", "examples": ["30s"]}
STATUS: Schema = {"type": "string", "enum": [status.name for status in Status]}


def make_components() -> dict[str, Schema]:
    """Return the schemas by name."""
    found = _collect(Run, Plan, Event, Quote, BillLine, Capabilities)
    for cls, names in HIDDEN.items():
        found[cls.__name__] = _drop(found[cls.__name__], names)
    found["Status"], found["Money"] = STATUS, MONEY
    run = found["Run"]["properties"]
    run["passed"] = _list_of(_object(status=_ref("Status"), at={"type": "string", "format": "date-time"}))
    run["phase"], run["cost_outcome"] = _ref("Phase"), _ref("CostOutcome")
    found |= {
        f"{cls.__name__}Summary": _drop(found[cls.__name__], names) for cls, names in ONLY_WHOLE.items()
    }
    summary = found["RunSummary"]["properties"]
    summary |= {"task": _ref("TaskSummary"), "attempts": _list_of(_ref("AttemptSummary"))}
    found["Phase"] = {"type": "string", "enum": ["running", "success", "failed"]}
    return {**found, **_make_answers()}


def _make_answers() -> dict[str, Schema]:
    none: Schema = {"type": "null"}
    return {
        "Health": _object(status={"type": "string"}),
        "RunPage": _object(
            runs=_list_of({"anyOf": [_ref("RunSummary"), _ref("Run")]}),
            next={"anyOf": [{"type": "string"}, none]},
        ),
        "RunPlan": _object(plan={"anyOf": [_ref("Plan"), none]}),
        "Events": _object(events=_list_of(_ref("Event"))),
        "Quotes": _object(quotes=_map_of(_ref("Quote"))),
        "Backends": _object(backends=_map_of(_ref("Capabilities")), health=_map_of({"type": "object"})),
        "Models": _object(
            models=_list_of(
                _object(
                    name={"type": "string"},
                    description={"type": ["string", "null"]},
                    targets=_map_of({"type": "object"}),
                )
            )
        ),
        "Costs": _object(since={"type": "string", "format": "date-time"}, lines=_list_of(_ref("BillLine"))),
        "Problem": {
            "type": "object",
            "description": "RFC 9457",
            "properties": {
                "type": {"type": "string", "format": "uri-reference"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "instance": {"type": "string"},
            },
            "required": ["type", "title", "status", "detail", "instance"],
        },
    }


def _collect(*types: type) -> dict[str, Schema]:
    from pydantic import TypeAdapter

    found: dict[str, Schema] = {}
    for cls in types:
        schema = TypeAdapter(cls).json_schema(mode="serialization", ref_template=REF)
        found |= schema.pop("$defs", {})
        if "$ref" not in schema:
            found[cls.__name__] = schema
    return {name: _adapt(schema) for name, schema in found.items()}


def _adapt(schema: Any) -> Any:
    """Return a schema with what the views change: times as "30s", and what is left out not required."""
    if isinstance(schema, list):
        return [_adapt(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "duration":
        return DURATION
    adapted = {
        name: _adapt(item) for name, item in schema.items() if name not in ("default", "additionalProperties")
    }
    if isinstance(schema.get("additionalProperties"), dict):
        adapted["additionalProperties"] = _adapt(schema["additionalProperties"])
    return adapted


def _drop(schema: Schema, names: Collection[str]) -> Schema:
    """Return an object's schema without some of its properties."""
    properties = {name: one for name, one in schema["properties"].items() if name not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    return {**schema, "properties": properties, "required": required}


def _ref(name: str) -> Schema:
    return {"$ref": REF.format(model=name)}


def _list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _map_of(item: Schema) -> Schema:
    return {"type": "object", "additionalProperties": item}


def _object(**properties: JSON) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def make_input_schemas(models: Mapping[str, Any]) -> dict[str, Schema]:
    """Return the schemas of pydantic models that are read, by name, with their parts."""
    found: dict[str, Schema] = {}
    for name, model in models.items():
        schema = model.model_json_schema(mode="validation", ref_template=REF)
        found |= schema.pop("$defs", {})
        found[name] = schema
    found.pop("Money", None)
    return {**{name: _adapt_input(schema) for name, schema in found.items()}, "Price": PRICE_SCHEMA}


def _adapt_input(schema: Any) -> Any:
    """Return a schema with durations and prices as they are written."""
    if isinstance(schema, list):
        return [_adapt_input(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "duration":
        return DURATION_SCHEMA
    if schema.get("$ref") == REF.format(model="Money"):
        return _ref("Price")
    return {name: _adapt_input(item) for name, item in schema.items() if name != "default"}
