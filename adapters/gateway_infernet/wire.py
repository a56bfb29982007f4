"""What an Infernet node says and wants to hear, in the gateway's words. Pure.

All of it was measured on nodes 0.2.0, 1.0.0, 1.3.1 and 1.4.0. Keys of answers come back sorted at every
depth, so the order of an output's keys is lost on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import BackendError, InvalidInput, Misbehaved, Rejected
from gateway.files import has_files
from gateway.http import Answer, encode_json, make_status_error, parse_json
from gateway.lifecycle import Status
from gateway.types import JSON
from gateway_infernet.config import InfernetTarget

STATUS: Mapping[str, Status] = {
    "running": Status.RUNNING,
    "success": Status.COMPLETED,
    "failed": Status.FAILED,  # the OpenAPI file says `failure`, the wire never does
}

MAX_BODY_BYTES = 15_900_000
"""A node reads at most 16 MiB; above, it answers 500 and hangs up while the request is still being sent."""
MAX_IDS_PER_GET = 350
MAX_QUERY_BYTES = 14_500
"""A request head above 16 KiB gets 431 or a reset; this leaves room for its other lines."""
MAX_ID_LENGTH = 200

# Texts of a 500 that come from reading the request, before anything is started. A batch gets them for its
# whole, and then nothing of it was started either.
_NEVER_STARTED = (
    "can not match type",
    "is not a mapping",
    "400 Bad Request",
    "413 Request Entity Too Large",
    "Could not parse message",
    "Non-hexadecimal digit found",
)
_PLAIN = re.compile(r"[A-Za-z0-9._~-]*")  # what is sent as it stands in a query
_MAX_DIGITS = 4300  # Python's own bound for reading an integer
_NO_JSON = object()  # stands for what can't be kept, so that writing it down fails
_NO_CHAIN = "MessageType is not JSON serializable"


def parse_version(text: str | None) -> tuple[int, ...]:
    """Return the numbers of a version; a node that says none is older than 1.0: (0,)."""
    numbers: list[int] = []
    for part in (text or "0").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers) or (0,)


def make_data(value: JSON) -> dict[str, JSON]:
    """Check that a task's input can be a job's `data`. Raises InvalidInput.

    The node's own refusal is one text for all mistakes and never names the field.
    """
    if not isinstance(value, dict):
        kind = "null" if value is None else type(value).__name__
        raise InvalidInput(f"an Infernet job's input must be a JSON object, and this is {kind}")
    if has_files(value):
        raise InvalidInput(
            "an Infernet node takes no files: put the content into the input as text (base64 for bytes)"
        )
    return value


def make_job_body(job_id: str, data: Mapping[str, JSON], target: InfernetTarget) -> dict[str, JSON]:
    """Return the body of POST /api/jobs and /api/jobs/stream, with our own id as the job's.

    Nothing of the caller's stands at its top level: a node takes the words `ip` and `type` there for its own.
    """
    if not job_id or len(job_id) > MAX_ID_LENGTH or ":" in job_id or not job_id.isprintable():
        raise InvalidInput(f"{job_id!r} can't be a job's id: a node cuts ids at a colon")
    body: dict[str, JSON] = {"id": job_id, "containers": list(target.containers), "data": dict(data)}
    if target.requires_proof is not None:
        body["requires_proof"] = target.requires_proof
    return body


def encode_body(body: JSON, *, backend: str) -> bytes:
    """Return the body as bytes. Raises InvalidInput (not JSON) or Rejected (too large for a node)."""
    encoded = encode_json(body)
    if len(encoded) > MAX_BODY_BYTES:
        raise Rejected(
            f"the job is {len(encoded) / 1e6:.1f} MB and a node takes at most {MAX_BODY_BYTES / 1e6:.1f} MB",
            backend=backend,
        )
    return encoded


def count_for_get(ids: Sequence[str]) -> int:
    """Return how many of the ids fit into one GET."""
    size = 0
    for count, job_id in enumerate(ids[:MAX_IDS_PER_GET]):
        size += len("&id=") + (len(job_id) if _PLAIN.fullmatch(job_id) else 3 * len(job_id.encode()))
        if size > MAX_QUERY_BYTES:
            return max(1, count)
    return min(len(ids), MAX_IDS_PER_GET)


def parse_object(answer: Answer, what: str, *, backend: str) -> dict[str, JSON]:
    """Read an answer that must be a JSON object. Raises Misbehaved."""
    value = _parse_body(answer, what, backend=backend)
    if not isinstance(value, dict):
        raise Misbehaved(f"{what} was answered with {_cut(answer.body)}", backend=backend)
    return value


def parse_list(answer: Answer, what: str, *, backend: str) -> list[JSON]:
    """Read an answer that must be a JSON list. Raises Misbehaved."""
    value = _parse_body(answer, what, backend=backend)
    if not isinstance(value, list):
        raise Misbehaved(f"{what} was answered with {_cut(answer.body)}", backend=backend)
    return value


def _parse_body(answer: Answer, what: str, *, backend: str) -> JSON:
    try:
        return parse_json(answer.body)
    except ValueError as error:
        raise Misbehaved(
            f"{what} was answered with what is not JSON: {_cut(answer.body)}",
            backend=backend,
            http_status=answer.status,
        ) from error


def parse_job_id(answer: Answer, what: str, *, backend: str) -> str:
    """Read `{"id": ...}`. Raises Misbehaved: a 200 means that the node took something."""
    job_id = parse_object(answer, what, backend=backend).get("id")
    if not isinstance(job_id, str) or not job_id:
        raise Misbehaved(f"{what} was answered without an id: {_cut(answer.body)}", backend=backend)
    return job_id


def parse_batch(answer: Answer, sent: Sequence[str], what: str, *, backend: str) -> list[str | BackendError]:
    """Read the answer to a batch: an id or the refusal for each id that was sent, in that order.

    Ids are ours, so an entry that has one says itself whose it is. A refusal has none and is matched by its
    place, which holds only if there are as many entries as jobs; what can't be matched is in doubt.
    """
    entries = parse_list(answer, what, backend=backend)
    objects = [entry for entry in entries if isinstance(entry, dict)]
    accepted = {entry["id"] for entry in objects if isinstance(entry.get("id"), str)}
    strange = accepted - set(sent)  # from a node that takes no ids of ours: none of the measured ones
    results: list[str | BackendError] = []
    for place, job_id in enumerate(sent):
        entry = entries[place] if len(entries) == len(sent) else None
        if job_id in accepted:
            results.append(job_id)
        elif isinstance(entry, dict) and entry.get("id") in strange:
            results.append(str(entry["id"]))
        elif isinstance(entry, dict) and isinstance(entry.get("error"), str) and "id" not in entry:
            results.append(_make_guardian_refusal(entry, backend=backend, job_id=job_id, http_status=None))
        else:
            results.append(
                Misbehaved(f"{what}: nothing in the answer is about {job_id}", backend=backend, job_id=job_id)
            )
    return results


def make_refusal(
    answer: Answer, what: str, *, backend: str, lands: bool, job_id: str | None = None
) -> BackendError:
    """Make the error for an answer that is not 200, other than 429.

    Only JSON errors are the node's own words. Its pages in HTML are Quart's: unknown path, wrong method, and
    exceptions that nobody caught.
    """
    said = _parse_error(answer)
    text = str(said["error"]) if said is not None else None
    if said is not None and answer.status == 405:
        return _make_guardian_refusal(said, backend=backend, job_id=job_id, http_status=405)
    if text is not None and _NO_CHAIN in text:
        return Rejected(
            f"{what}: the node's chain is disabled, or the signature expired (it says neither)",
            backend=backend,
            job_id=job_id,
            http_status=answer.status,
            detail=said,
        )
    if is_never_started(answer):
        return Rejected(
            f"{what}: the node could not read it and does not say which field is wrong: {_cut(text or '')}",
            backend=backend,
            job_id=job_id,
            http_status=answer.status,
            detail=said,
        )
    message = f"{what}: HTTP {answer.status}"
    if text is not None:
        message += f": {_cut(text)}"
    elif answer.status == 404:
        message += ": no such path; it is no Infernet node, or one too old for this"
    elif answer.status == 405:
        message += ": the wrong method; is it an Infernet node?"
    elif answer.status in (413, 431):
        message += ": too large for the node or for what stands before it"
    return make_status_error(
        answer, what, backend=backend, lands=lands, message=message, detail=said, job_id=job_id
    )


def is_never_started(answer: Answer) -> bool:
    """Say whether a refusal proves that nothing of the request was started."""
    said = _parse_error(answer)
    return said is not None and any(text in str(said["error"]) for text in _NEVER_STARTED)


def _parse_error(answer: Answer) -> dict[str, JSON] | None:
    if not answer.is_json:
        return None
    try:
        said = parse_json(answer.body)
    except ValueError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("error"), str) else None


def _make_guardian_refusal(
    said: Mapping[str, JSON], *, backend: str, job_id: str | None, http_status: int | None
) -> Rejected:
    params = said.get("params")
    words = ", ".join(f"{name} {value}" for name, value in params.items()) if isinstance(params, dict) else ""
    return Rejected(
        f"{said['error']} ({words})" if words else str(said["error"]),
        backend=backend,
        job_id=job_id,
        code=str(said["error"]),
        http_status=http_status,
        detail={"error": said["error"], "params": params},
    )


@dataclass(frozen=True, slots=True)
class Look:
    """What one GET said about one id.

    Attributes:
        entry: the node's own words; None if there are none.
        is_certain: without an entry: the node doesn't know the id. Otherwise the answer was partly garbage.
        is_sound: false if the entry holds what our own stores could not keep.
    """

    entry: Mapping[str, JSON] | None
    is_certain: bool = True
    is_sound: bool = True


def parse_results(answer: Answer, ids: Iterable[str], what: str, *, backend: str) -> dict[str, Look]:
    """Read the answer to a GET for these ids, matched by id: its order is another than the request's.

    A job that was run again has two entries, its old result and the new one: the one that runs counts.
    Raises Misbehaved if nothing in the answer can be read.
    """
    try:
        entries, are_sound = parse_list(answer, what, backend=backend), True
    except Misbehaved:
        unsound = _parse_unsound_list(answer.body)
        if unsound is None:
            raise
        entries, are_sound = unsound, False
    known: dict[str, Mapping[str, JSON]] = {}
    unreadable = 0
    for entry in entries:
        if not (isinstance(entry, dict) and isinstance(entry.get("id"), str)):
            unreadable += 1
        elif entry["id"] not in known or entry.get("status") == "running":
            known[entry["id"]] = entry
    if unreadable and not known:
        raise Misbehaved(f"{what}: no entry can be read: {_cut(answer.body)}", backend=backend)
    return {
        job_id: Look(
            known.get(job_id),
            is_certain=unreadable == 0,
            is_sound=are_sound or _is_sound(known.get(job_id)),
        )
        for job_id in ids
    }


def _parse_unsound_list(body: bytes) -> list[JSON] | None:
    """Read what only Python's own json reads: halves of surrogate pairs, very deep nesting, endless integers.

    One container that writes such a thing must not hide the results of all the others in the same answer.
    """

    def parse_int(text: str) -> object:
        return int(text) if len(text) <= _MAX_DIGITS else _NO_JSON

    try:
        value = json.loads(body, parse_int=parse_int)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def _is_sound(entry: JSON) -> bool:
    try:
        parse_json(encode_json(entry))
    except (InvalidInput, ValueError):
        return False
    return True


def _cut(text: str | bytes, length: int = 300) -> str:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return shown if len(shown) <= length else shown[:length] + "..."
