"""OGPU's words: enums of the contracts, the one table of statuses, and the files beside the chain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import TypeVar

from pydantic_core import from_json

from gateway.errors import InvalidInput, Misbehaved
from gateway.lifecycle import Status
from gateway.types import JSON

CONFIG_NAME = "taskConfig.json"
METADATA_NAME = "imageMetadata.json"
JSON_TYPE = "application/json"


class SourceStatus(IntEnum):
    """Of a source. INACTIVE is for ever."""

    ACTIVE = 0
    INACTIVE = 1


class TaskStatus(IntEnum):
    """Of a task. EXPIRED is lazy: it is set by whoever attempts the task after its time."""

    NEW = 0
    ATTEMPTED = 1
    RESPONDED = 2
    CANCELED = 3
    EXPIRED = 4
    FINALIZED = 5


class ResponseStatus(IntEnum):
    """Of a response."""

    SUBMITTED = 0
    CONFIRMED = 1


class DeliveryMethod(IntEnum):
    """Who confirms a source's answers."""

    MANUAL_CONFIRMATION = 0
    FIRST_RESPONSE = 1


class Environment(IntFlag):
    """Where a source's image runs."""

    CPU = 1
    NVIDIA = 2
    AMD = 4


STATUS: Mapping[TaskStatus, Status] = {
    TaskStatus.NEW: Status.QUEUED,
    TaskStatus.ATTEMPTED: Status.RUNNING,
    TaskStatus.RESPONDED: Status.UPLOADING,  # an answer is there and wants accepting
    TaskStatus.FINALIZED: Status.COMPLETED,
    TaskStatus.CANCELED: Status.CANCELLED,
    TaskStatus.EXPIRED: Status.FAILED,
}
"""OGPU's words for a task in the gateway's."""

_EnumT = TypeVar("_EnumT", bound=IntEnum)


def parse_enum(kind: type[_EnumT], value: int) -> _EnumT:
    """Read an enum of the contracts. Raises Misbehaved for a value that was never heard of."""
    try:
        return kind(value)
    except ValueError:
        raise Misbehaved(f"{value!r} is no {kind.__name__}", code=str(value)) from None


def encode_config(function: str, data: JSON, extra: Mapping[str, JSON]) -> bytes:
    """Return a task's config file; equal tasks have equal bytes. Raises InvalidInput."""
    if not isinstance(data, dict):
        raise InvalidInput(f"OGPU's functions take a JSON object, not {type(data).__name__}")
    return encode_json({**extra, "function_name": function, "data": data})


def encode_json(value: JSON) -> bytes:
    """Return the canonical JSON of a value. Raises InvalidInput for NaN and infinities."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InvalidInput(f"the input is not JSON: {error}") from error
    return text.encode()


def parse_answer(data: bytes) -> JSON:
    """Read a response's file. Raises ValueError if it is not JSON, or has more than 200 levels."""
    return from_json(data, allow_inf_nan=False)
