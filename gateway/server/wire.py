"""What a handler reads and answers over plain ASGI: Request, Response, Stream; bounded in size and time."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from pydantic_core import from_json, to_json

from gateway.observe.stopwatch import wait_for_caller
from gateway.server.problems import BAD_JSON, TOO_LARGE, TOO_SLOW, WRONG_TYPE, Refusal, refuse_fields
from gateway.types import JSON

if TYPE_CHECKING:
    from pydantic import BaseModel

    from gateway.server.callers import Caller
    from gateway.server.service import Service

AsgiScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

ModelT = TypeVar("ModelT", bound="BaseModel")

AT_ONCE = "gateway.at_once"
"""Where ASGI's scope has an AtOnce, if our own protocol is below."""
_HEADERS = "gateway.headers"
_MAY_BE_HUGE = re.compile(rb"[0-9](?:[eE]\+?[0-9]{2}|[0-9]{289})")  # begins with a set: found in a fast loop
JSON_TYPE: Header = (b"content-type", b"application/json")


def encode(value: object) -> bytes:
    """Return a value (also a dataclass or pydantic model) as JSON text that any language reads.

    NaN and infinities, which JSON has no words for, are the texts "NaN", "Infinity" and "-Infinity".
    """
    return to_json(value, inf_nan_mode="strings", bytes_mode="base64")


@dataclass(slots=True)
class Response:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    headers: Sequence[Header] = ()


@dataclass(slots=True)
class Stream:
    """An answer whose body comes in pieces; the iterator is closed when the client goes away."""

    chunks: AsyncIterator[bytes]
    status: int = 200
    headers: Sequence[Header] = ()


class AtOnce(Protocol):
    """What can be done without ASGI's messages, if nothing has to be waited for."""

    def take_body(self) -> bytes | None:
        """Return the whole body if it is there; None if it is to be received."""

    def write(self, answer: Response) -> bool:
        """Write a whole answer; False if it is to be sent."""


Answer = Response | Stream
Handler = Callable[["Request"], Awaitable[Answer]]


def answer_json(value: object, status: int = 200, headers: Sequence[Header] = ()) -> Response:
    """Answer with JSON."""
    return Response(status, encode(value), (JSON_TYPE, *headers))


def answer_bytes(body: bytes, content_type: bytes, status: int = 200) -> Response:
    """Answer with bytes of a type."""
    return Response(status, body, ((b"content-type", content_type),))


@dataclass(slots=True, eq=False)
class Request:
    """One request, as its handler sees it.

    Attributes:
        scope: ASGI's.
        path: decoded, below the application's root.
        params: what the route's template names, decoded.
        caller: whose key it came with; see gateway.server.callers.
        service: the gateway, the settings and the keys.
    """

    scope: AsgiScope
    receive: Receive
    path: str
    params: Mapping[str, str]
    caller: Caller
    service: Service
    _query: dict[str, list[str]] | None = field(default=None, repr=False)

    @property
    def method(self) -> str:
        """Return GET, POST, ..."""
        return str(self.scope["method"])

    def get_header(self, name: bytes) -> str | None:
        """Return a header by its name in lower case."""
        return find_header(self.scope, name)

    @property
    def query(self) -> Mapping[str, list[str]]:
        """Return the words of the query, each with all its values."""
        if self._query is None:
            self._query = {}
            text = self.scope["query_string"].decode("latin-1")
            for name, value in parse_qsl(text, keep_blank_values=True):
                self._query.setdefault(name, []).append(value)
        return self._query

    def read_query(self, model: type[ModelT]) -> ModelT:
        """Read the query as a pydantic model. Raises Refusal, with every wrong field."""
        listed = {name for name, field in model.model_fields.items() if "tuple" in str(field.annotation)}
        data = {name: values if name in listed else values[-1] for name, values in self.query.items()}
        from pydantic import ValidationError

        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise refuse_fields(error.errors(include_url=False, include_input=False), "query") from None

    async def stream_body(self, *, limit: int | None = None) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises Refusal if it is larger or slower than allowed."""
        most, end = self._get_most(limit), self._get_end()
        read, more = 0, True
        while more:
            try:
                async with asyncio.timeout_at(end):
                    chunk, more = await self._receive(read, most)
            except TimeoutError:
                raise self._refuse_slow() from None
            read += len(chunk)
            if chunk:
                yield chunk

    async def read_body(self, *, limit: int | None = None) -> bytes:
        """Return the whole body; see `stream_body`."""
        at_once: AtOnce | None = self.scope.get(AT_ONCE)
        whole = None if at_once is None else at_once.take_body()
        if whole is not None:  # as it nearly always is: it came together with the head
            most = self.service.settings.max_body if limit is None else limit
            return _check_size(whole, most, most)
        most = self._get_most(limit)
        try:
            async with asyncio.timeout_at(self._get_end()):
                body, more = await self._receive(0, most)
                chunks, read = [body], len(body)
                while more:
                    chunk, more = await self._receive(read, most)
                    chunks.append(chunk)
                    read += len(chunk)
        except TimeoutError:
            raise self._refuse_slow() from None
        return b"".join(chunks)

    def _get_most(self, limit: int | None) -> int:
        """Return how large the body may be. Raises Refusal if it says that it is larger."""
        most = self.service.settings.max_body if limit is None else limit
        declared = self.get_header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > most:
            raise Refusal(TOO_LARGE, f"the body has {declared} bytes; at most {most} are read")
        return most

    def _get_end(self) -> float:
        return asyncio.get_running_loop().time() + self.service.settings.body_timeout.total_seconds()

    def _refuse_slow(self) -> Refusal:
        seconds = self.service.settings.body_timeout.total_seconds()
        return Refusal(TOO_SLOW, f"the body did not come within {seconds:g} s")

    async def _receive(self, read: int, most: int) -> tuple[bytes, bool]:
        """Return the next piece of the body, and whether there is more. Raises Refusal, Disconnected."""
        with wait_for_caller():
            message = await self.receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        return _check_size(chunk, most - read, most), message.get("more_body", False)

    async def read_json(self) -> JSON:
        """Return the body as JSON. Raises Refusal if it is none, or if it is not said to be."""
        return parse_json(await self._read_json_bytes())

    async def _read_json_bytes(self) -> bytes:
        kind = self.get_header(b"content-type") or ""
        if kind != "application/json":
            kind = kind.partition(";")[0].strip().lower()
            if kind != "application/json" and not kind.endswith("+json"):
                raise Refusal(WRONG_TYPE, "the body must be JSON, with content-type: application/json")
        return await self.read_body()

    async def read(self, model: type[ModelT]) -> ModelT:
        """Return the body as a pydantic model, with the types that its schema says. Raises Refusal."""
        from pydantic import ValidationError

        body = await self._read_json_bytes()
        if b"NaN" in body or b"Infinity" in body or _MAY_BE_HUGE.search(body) is not None:
            parse_json(body)  # pydantic would take the bare words, and 1e999 as well
        try:
            return model.model_validate_json(body, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            if found[0]["type"] == "json_invalid":
                raise Refusal(BAD_JSON, f"the body is not JSON: {found[0]['msg']}") from None
            raise refuse_fields(found, "body") from None


class Disconnected(Exception):
    """The client went away; nobody reads an answer."""


def _check_size(chunk: bytes, left: int, most: int) -> bytes:
    if len(chunk) > left:
        raise Refusal(TOO_LARGE, f"the body is larger than the {most} bytes that are read")
    return chunk


def parse_json(body: bytes) -> JSON:
    """Read JSON as RFC 8259 has it: no NaN, text that is Unicode, bounded depth. Raises Refusal.

    A number beyond what a double holds is refused as well: it would be passed on as Infinity.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(BAD_JSON, f"the body is not JSON: {error}") from None
    if _MAY_BE_HUGE.search(body) is not None and not _is_finite(value):
        raise Refusal(BAD_JSON, "the body has a number that is too large: a double holds up to 1.8e308")
    return value


def _is_finite(value: JSON) -> bool:
    """Say whether all numbers in a value are finite."""
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def find_header(scope: AsgiScope, name: bytes) -> str | None:
    """Return a header of a request by its name in lower case."""
    known = scope.get(_HEADERS)
    if known is None:
        known = scope[_HEADERS] = dict(reversed(scope["headers"]))  # of several of a name the first counts
    value: bytes | None = known.get(name)
    return None if value is None else value.decode("latin-1")


async def send_answer(answer: Answer, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Send an answer; a stream ends when the client goes away."""
    without_body = scope["method"] == "HEAD"
    if isinstance(answer, Response):
        at_once: AtOnce | None = scope.get(AT_ONCE)
        if at_once is not None and at_once.write(answer):
            return
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if without_body else answer.body})
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    if not without_body:
        await _send_chunks(answer.chunks, receive, send)
    await send({"type": "http.response.body", "body": b""})


async def _send_chunks(chunks: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Send pieces until they end or the client is gone; then close where they come from."""

    async def pump() -> None:
        async with aclosing(chunks) as pieces:  # type: ignore[type-var]  # handlers give async generators
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})

    pumping = asyncio.ensure_future(pump())
    watching = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({pumping, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pumping, watching):
            task.cancel()
        results = await asyncio.gather(pumping, watching, return_exceptions=True)
    failed = results[0]
    if isinstance(failed, Exception):
        raise failed


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
