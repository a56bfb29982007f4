"""What an app is: versions, functions, schemas, a price; and how a reference to one is read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.devnet.inferencesh.clock import Clock
from gateway.devnet.inferencesh.envelopes import Problem
from gateway.types import JSON

_REF = re.compile(
    r"(?:app/)?(?P<namespace>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<version>\w+))?(?::(?P<function>\w+))?"
)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class AppFailure(Exception):
    """Raised by an app's function: the task ends FAILED with this text as its `error`."""


@dataclass(slots=True)
class Call:
    """What a function is called with.

    `values` is the worker's memory: it stays for the calls of one session and is empty otherwise.
    `publish_output` shows the output so far, `publish_delta` an increment of an LLM's answer.
    """

    input: JSON
    setup: JSON
    values: dict[str, JSON]
    clock: Clock
    read_file: Callable[[str], bytes]
    publish_output: Callable[[JSON], None]
    publish_delta: Callable[[JSON], None]
    log: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Function:
    """One entry point. `ignores_cancel` names the input key that makes a call go on after a polite cancel."""

    run: Callable[[Call], Awaitable[JSON]]
    properties: Mapping[str, JSON] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    output_schema: Mapping[str, JSON] = field(default_factory=lambda: {"type": "object"})
    capabilities: tuple[str, ...] = ()
    ignores_cancel: str | None = None

    def encode(self, name: str) -> JSON:
        """Return the AppFunction of the wire."""
        return {
            "name": name,
            "kind": "run",
            "input_schema": self.input_schema,
            "output_schema": dict(self.output_schema),
            "capabilities": list(self.capabilities),
        }

    @property
    def input_schema(self) -> JSON:
        """The JSON Schema of the input; a file is a string of format `file`."""
        return {"type": "object", "properties": dict(self.properties), "required": list(self.required)}

    def check(self, value: JSON) -> None:
        """Raise Problem 400 when the input does not fit the schema."""
        if value is None and not self.required:
            return
        if not isinstance(value, dict) and self.properties:
            raise Problem(400, "validation_error", "input has to be an object")
        for key in self.required:
            if key not in value:
                raise Problem(
                    400, "validation_error", f"input.{key} is required", meta={"field": f"input.{key}"}
                )
        for key, schema in self.properties.items():
            expected = schema.get("type")
            if expected and key in value and not _is_of_type(value[key], expected):
                detail = f"input.{key} has to be of type {expected}"
                raise Problem(400, "validation_error", detail, meta={"field": f"input.{key}"})


def _is_of_type(value: JSON, expected: str) -> bool:
    if isinstance(value, bool):
        return expected == "boolean"
    return isinstance(value, _TYPES[expected])


@dataclass(frozen=True, slots=True)
class Pricing:
    """What a run costs, in microcents of 1e-8 USD.

    "exact": `least` is the price; "range": between `least` and `most`, and `least` is what a run is billed;
    "unknown": nothing can be said before, and `least` is billed.
    """

    confidence: Literal["exact", "range", "unknown"]
    least: int
    most: int = 0
    depends_on: tuple[str, ...] = ()
    description: str = ""

    def encode(self) -> JSON:
        """Return the answer of `POST /store/apps/{id}/estimate`."""
        body: dict[str, JSON] = {"confidence": self.confidence, "pricing_description": self.description}
        if self.confidence == "exact":
            return {**body, "microcents": self.least}
        if self.confidence == "range":
            body |= {"min": self.least, "max": self.most}
        return {**body, "depends_on": list(self.depends_on)}


@dataclass(slots=True)
class App:
    """An app of the store. `versions` are short ids, the newest last. `status` may be changed by a test.

    An app that is not `admitted` has every run refused at admission: the task is written already REJECTED.
    """

    namespace: str
    name: str
    description: str
    functions: Mapping[str, Function]
    pricing: Pricing
    default_function: str = "run"
    versions: tuple[str, ...] = ("1a2b",)
    required_secrets: tuple[str, ...] = ()
    admitted: bool = True
    status: Literal["active", "maintenance", "deprecated", "retired"] = "active"

    @property
    def ref(self) -> str:
        """The name without a version."""
        return f"{self.namespace}/{self.name}"

    @property
    def id(self) -> str:
        """The id, the same at every start."""
        return "app_" + hashlib.sha256(self.ref.encode()).hexdigest()[:20]

    def make_version_id(self, version: str) -> str:
        """Return the long id of a version."""
        return "ver_" + hashlib.sha256(f"{self.ref}@{version}".encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Entry:
    """An app, one of its versions and one of its functions: what a reference leads to."""

    app: App
    version: str
    function_name: str

    @property
    def version_id(self) -> str:
        """The long id of the version."""
        return self.app.make_version_id(self.version)

    @property
    def function(self) -> Function:
        """The function itself."""
        return self.app.functions[self.function_name]


class Catalogue:
    """The apps of one stand-in."""

    def __init__(self, apps: Iterable[App]) -> None:
        self._apps = {app.ref: app for app in apps}

    def __iter__(self) -> Iterator[App]:
        return iter(self._apps.values())

    def __getitem__(self, ref: str) -> App:
        return self._apps[ref]

    def get_by_id(self, app_id: str) -> App:
        """Return the app with this id, or raise Problem 404."""
        for app in self._apps.values():
            if app.id == app_id:
                return app
        raise Problem(404, "not_found", f"app {app_id} not found")

    def get_by_version_id(self, version_id: str) -> Entry:
        """Return the version with this id, or raise Problem 404."""
        for app in self._apps.values():
            for version in app.versions:
                if app.make_version_id(version) == version_id:
                    return Entry(app, version, app.default_function)
        raise Problem(404, "not_found", f"app version {version_id} not found")

    def get_by_ref(self, ref: str) -> Entry:
        """Follow "ns/name[@version][:function]". Raises Problem 400 for nonsense, 404 for what is missing."""
        match = _REF.fullmatch(ref)
        if match is None:
            raise Problem(400, "validation_error", f'"{ref}" is not an app reference like "ns/name@version"')
        app = self._apps.get(f"{match['namespace']}/{match['name']}")
        if app is None:
            raise Problem(404, "not_found", f"app {ref} not found")
        version = match["version"]
        if version in (None, "latest"):
            version = app.versions[-1]
        if version not in app.versions:
            raise Problem(404, "not_found", f"app {app.ref} has no version {version}")
        return select_function(Entry(app, version, app.default_function), match["function"])


def select_function(entry: Entry, function: str | None) -> Entry:
    """Return the entry with another function. Raises Problem 400 if the app does not have it."""
    if function is None:
        return entry
    if function not in entry.app.functions:
        known = ", ".join(entry.app.functions)
        detail = f'app {entry.app.ref} has no function "{function}"; it has: {known}'
        raise Problem(400, "validation_error", detail, meta={"field": "function"})
    return Entry(entry.app, entry.version, function)


def encode_app(entry: Entry, *, resolved_function: str = "") -> JSON:
    """Return the AppDTO of the wire."""
    app = entry.app
    return {
        "id": app.id,
        "short_id": app.id[-8:],
        "namespace": app.namespace,
        "name": app.name,
        "title": app.name,
        "description": app.description,
        "category": "other",
        "tags": [],
        "version_id": entry.version_id,
        "version": encode_version(entry),
        "status": app.status,
        "status_message": "",
        "visibility": "public",
        "resolved_function": resolved_function,
        "pricing_description": app.pricing.description,
    }


def encode_version(entry: Entry) -> JSON:
    """Return the AppVersionDTO of the wire."""
    app = entry.app
    default = app.functions[app.default_function]
    return {
        "id": entry.version_id,
        "short_id": entry.version,
        "input_schema": default.input_schema,
        "output_schema": dict(default.output_schema),
        "setup_schema": None,
        "functions": {name: function.encode(name) for name, function in app.functions.items()},
        "default_function": app.default_function,
        "required_secrets": [
            {"key": key, "description": f"the secret {key}", "optional": False}
            for key in app.required_secrets
        ],
        "required_credentials": {},
        "resources": {"gpu": {"count": 0, "vram": 0, "type": "none"}, "ram": 0},
    }
