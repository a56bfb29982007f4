"""The routing table: which handler answers which method and path, decided once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.server.callers import KeyScope
from gateway.server.problems import NO_METHOD, NO_ROUTE, Problem, Refusal
from gateway.server.wire import AsgiScope, Handler, Response, encode, find_header

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Operation:
    """What the OpenAPI document says of a route. Routes without one are not in it.

    Attributes:
        summary: one line.
        body: the model that the handler reads the body with.
        query: the model that it reads the query with.
        answer: the name of the answer's schema; see gateway.server.schemas. None for another kind of answer.
        status: of good answers.
        content_types: of good answers.
        headers: names of request headers that it reads, each with what it says and its schema.
        problems: statuses of the problems that it may answer with, beside those that every route has.
        leads_to: the operations (by handler) that take the answer's `id`.
    """

    summary: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: str | None = None
    status: tuple[int, ...] = (200,)
    content_types: tuple[str, ...] = ("application/json",)
    headers: Mapping[str, tuple[str, Mapping[str, object]]] = field(default_factory=dict)
    problems: tuple[int, ...] = ()
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One address and what answers there.

    Attributes:
        method: GET, POST, ...; a GET answers HEAD as well.
        template: "/v1/runs/{id}": `{id}` is one part of the path; `{rest:path}`, at its end, the rest.
        handle: the handler.
        scope: what the caller's key must have; None for what anybody may see.
        operation: for the OpenAPI document.
    """

    method: str
    template: str
    handle: Handler
    scope: KeyScope | None
    operation: Operation | None = None


def tell_as_problem(problem: Problem, path: str) -> Response:
    """Answer with an RFC 9457 problem."""
    headers = ((b"content-type", b"application/problem+json"), *problem.headers)
    return Response(problem.kind.status, encode(problem.make_body(path)), headers)


def read_key(scope: AsgiScope) -> str | None:
    """Return the API key of a request: `Authorization: Bearer ...`, or `X-API-Key`."""
    text = find_header(scope, b"authorization")
    if text is not None and text[:7].lower() == "bearer ":
        return text[7:].strip()
    return find_header(scope, b"x-api-key")


@dataclass(frozen=True, slots=True)
class Face:
    """One protocol that the server speaks: its addresses, and how it tells errors and reads keys.

    Attributes:
        prefix: below which its addresses are; "" for the native one.
        routes: with whole templates, the prefix included.
        tell: writes a problem in the protocol's own words, given the path.
        read_key: finds the API key in a request.
    """

    prefix: str
    routes: Sequence[Route]
    tell: Callable[[Problem, str], Response] = tell_as_problem
    read_key: Callable[[AsgiScope], str | None] = read_key


@dataclass(frozen=True, slots=True)
class Found:
    """What is at an address."""

    face: Face
    routes: dict[str, Route]
    params: Mapping[str, str]

    def get_route(self, method: str) -> Route:
        """Return the route of a method. Raises Refusal: 404, or 405 with the methods that there are."""
        route = self.routes.get(method) or (self.routes.get("GET") if method == "HEAD" else None)
        if route is not None:
            return route
        if not self.routes:
            raise Refusal(NO_ROUTE, "there is nothing at this address; /openapi.json lists what there is")
        allowed = ", ".join(sorted({*self.routes, *(("HEAD",) if "GET" in self.routes else ())}))
        raise Refusal(
            NO_METHOD, f"this address takes {allowed}", headers=[(b"allow", allowed.encode("ascii"))]
        )


class Table:
    """All faces' routes, found by path: fixed ones in one look-up, the others by their parts."""

    def __init__(self, faces: Sequence[Face]) -> None:
        """Raises ValueError for two routes at one address."""
        self.faces = tuple(sorted(faces, key=lambda face: -len(face.prefix)))
        self._fixed: dict[str, Found] = {}
        self._templates: list[tuple[tuple[str, ...], Face, dict[str, Route]]] = []
        for face in self.faces:
            for route in face.routes:
                self._add(face, route)

    @property
    def routes(self) -> list[Route]:
        """Return every route."""
        return [route for face in self.faces for route in face.routes]

    def find(self, path: str) -> Found:
        """Return what is at a path, which may be nothing."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        parts = tuple(path.split("/"))
        for template, face, routes in self._templates:
            params = _match(template, parts)
            if params is not None:
                return Found(face, routes, params)
        return Found(self._find_face(path), {}, {})

    def _find_face(self, path: str) -> Face:
        for face in self.faces:
            if path == face.prefix or path.startswith(f"{face.prefix}/"):
                return face
        return self.faces[-1]

    def _add(self, face: Face, route: Route) -> None:
        if "{" not in route.template:
            known = self._fixed.setdefault(route.template, Found(face, {}, {})).routes
        else:
            template = tuple(route.template.split("/"))
            for other, _, routes in self._templates:
                if other == template:
                    known = routes
                    break
            else:
                known = {}
                self._templates.append((template, face, known))
        if route.method in known:
            raise ValueError(f"there are two routes for {route.method} {route.template}")
        known[route.method] = route


def _match(template: tuple[str, ...], parts: tuple[str, ...]) -> dict[str, str] | None:
    takes_rest = template[-1].endswith(":path}")
    if len(parts) < len(template) or (len(parts) > len(template) and not takes_rest):
        return None
    params: dict[str, str] = {}
    for place, word in enumerate(template):
        if word[:1] != "{":
            if parts[place] != word:
                return None
        elif word.endswith(":path}"):
            params[word[1:-6]] = "/".join(parts[place:])
        elif parts[place]:
            params[word[1:-1]] = parts[place]
        else:
            return None
    return params
