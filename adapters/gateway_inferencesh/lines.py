"""A task's stream, line by line: cutting, reading, merging. Pure.

A line is a whole task, a part of one with the names of what changed, a delta of a language model's answer,
or a heartbeat. What else may come is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from gateway.http import parse_json
from gateway.types import JSON
from gateway_inferencesh.wire import parse_status

_CONCATENATED = frozenset({"response", "reasoning"})


class LineTooLong(ValueError):
    """A line is longer than the configuration allows."""


class LineSplitter:
    """Cuts bytes into lines, wherever the chunks end. Empty lines and the line ends are left out."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that this chunk ends. Raises LineTooLong."""
        first, *more = chunk.split(b"\n")
        self._rest += first
        self._check(self._rest)
        if not more:
            return
        *whole, rest = more
        for piece in (bytes(self._rest), *whole):
            self._check(piece)
            if line := piece.rstrip(b"\r"):
                yield line
        self._rest = bytearray(rest)
        self._check(rest)

    def flush(self) -> bytes:
        """Return what came after the last line end."""
        line, self._rest = bytes(self._rest).rstrip(b"\r"), bytearray()
        return line

    def _check(self, line: bytes | bytearray) -> None:
        if len(line) > self._max_line_bytes:
            raise LineTooLong(f"a line is longer than {self._max_line_bytes} bytes")


@dataclass(frozen=True, slots=True)
class Part:
    """What is new of a task: `fields` are the names in `data` that count; None for all of them."""

    data: Mapping[str, JSON]
    fields: tuple[str, ...] | None = None


class Delta(NamedTuple):  # there are many of them, and a dataclass takes three times as long
    """An increment of an answer. `seq` grows per `producer`; None if it isn't told."""

    delta: Mapping[str, JSON]
    seq: int | None = None
    producer: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server is there."""


Line: TypeAlias = Part | Delta | Heartbeat


def parse_line(line: bytes, job_id: str) -> Line | None:
    """Read one line; None for what means nothing for this job."""
    try:
        value = parse_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    event, data = value.get("event"), value.get("data")
    if event == "delta":
        return _parse_delta(data)
    if value.get("type") == "heartbeat":
        return Heartbeat()
    if isinstance(data, dict):
        fields = value.get("fields")
        known = event in (None, "tasks", "task") and data.get("id", job_id) == job_id
        names = tuple(f for f in fields if isinstance(f, str)) if isinstance(fields, list) else None
        return Part(data, names or None) if known else None
    return Part(value) if value.get("id") == job_id else None


def _parse_delta(data: JSON) -> Delta | None:
    if not (isinstance(data, dict) and isinstance(data.get("delta"), dict)):
        return None
    seq = data.get("seq")
    is_number = isinstance(seq, int) and not isinstance(seq, bool)
    return Delta(data["delta"], seq if is_number else None, str(data.get("resource_id") or ""))


def merge_part(task: Mapping[str, JSON], part: Part) -> dict[str, JSON]:
    """Return the task with what is new put over it.

    Only the named fields count, because a part may carry empty values of the others. A status that says
    nothing, and one that takes an ended task back, are left out.
    """
    names = part.fields if part.fields is not None else tuple(part.data)
    news = {name: part.data[name] for name in names if name in part.data}
    if "status" in news:
        status, before = parse_status(news["status"]), parse_status(task.get("status"))
        ended = before is not None and before.is_final
        if status is None or (ended and not status.is_final):
            news.pop("status")
            news.pop("status_text", None)
    return {**task, **news}


def merge_delta(answer: Mapping[str, JSON], delta: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return the answer so far with an increment added.

    `response` and `reasoning` grow, `tool_calls` are merged by their `index`, anything else is replaced.
    """
    merged = dict(answer)
    for name, value in delta.items():
        before = merged.get(name)
        if name in _CONCATENATED and isinstance(before, str) and isinstance(value, str):
            merged[name] = before + value
        elif name == "tool_calls" and isinstance(value, list):
            merged[name] = _merge_calls(before if isinstance(before, list) else [], value)
        else:
            merged[name] = value
    return merged


def _merge_calls(before: list[JSON], news: list[JSON]) -> list[JSON]:
    calls = {call.get("index", at): call for at, call in enumerate(before) if isinstance(call, dict)}
    for at, call in enumerate(news):
        if isinstance(call, dict):
            index = call.get("index", at)
            calls[index] = _merge_call(calls.get(index, {}), call)
    return list(calls.values())


def _merge_call(call: Mapping[str, JSON], news: Mapping[str, JSON]) -> dict[str, JSON]:
    merged = {**call, **news}
    before, after = call.get("function"), news.get("function")
    if isinstance(before, dict) and isinstance(after, dict):
        merged["function"] = {**before, **after}
        if before.get("arguments") and "arguments" in after:
            merged["function"]["arguments"] = str(before["arguments"]) + str(after["arguments"] or "")
    return merged
