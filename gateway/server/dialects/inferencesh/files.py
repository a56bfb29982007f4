"""Files: uploaded to the gateway, and put into an input by the URI that it gave them.

They lie on the store's shelf for a day; an input keeps what it was given. The upload's URL carries a token of
its own, so that the API key is not sent with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import uuid
from datetime import timedelta
from typing import Any

from gateway.files import File, encode_files
from gateway.server.callers import Caller
from gateway.server.dialects.inferencesh.words import INVALID, NOT_FOUND, PREFIX, answer, write_time
from gateway.server.problems import TOO_LARGE, Refusal
from gateway.server.wire import Answer, Request, Response, find_header
from gateway.store.shelf import Note
from gateway.types import JSON

KEPT = timedelta(days=1)

_KIND = "upload"
_MOST_AT_ONCE = 20
_FORGOTTEN_AT_ONCE = 20
_END = "/content"


async def create_files(request: Request) -> Answer:
    """Make room for files; each has an `upload_url` to PUT its bytes to, and a `uri` for inputs."""
    body = await request.read_json()
    asked = body.get("files") if isinstance(body, dict) else None
    if not isinstance(asked, list) or not 1 <= len(asked) <= _MOST_AT_ONCE:
        raise Refusal(INVALID, f"files must be a list of 1 to {_MOST_AT_ONCE} files")
    if not all(isinstance(one, dict) for one in asked):
        raise Refusal(INVALID, "each file is an object with filename and content_type")
    await _forget_old(request)
    return answer(request, [await _create(request, one) for one in asked])


async def _create(request: Request, asked: dict[str, Any]) -> JSON:
    file_id, token = uuid.uuid4().hex, secrets.token_urlsafe(24)
    now = request.service.clock.now()
    told = {
        "id": file_id,
        "filename": str(asked.get("filename") or "file")[:255],
        "content_type": str(asked.get("content_type") or "application/octet-stream")[:255],
        "size": asked.get("size") if isinstance(asked.get("size"), int) else None,
        "created_at": write_time(now),
        "uri": f"{_get_place(request)}/files/{file_id}{_END}",
    }
    note = {"told": told, "key": request.caller.key, "token": _hash(token)}
    shelf = request.service.store.shelf
    await shelf.put(Note(kind=_KIND, id=file_id, body=b"{}", due_at=now + KEPT))
    await shelf.put(Note(kind=_name(file_id), id="note", body=json.dumps(note).encode()))
    return {**told, "upload_url": f"{told['uri']}?token={token}"}


async def put_content(request: Request) -> Answer:
    """Take a file's bytes; who has the URL may."""
    file_id = request.params["id"]
    notes = await _load(request, file_id)
    token = request.query.get("token", [""])[-1]
    if notes is None or not hmac.compare_digest(_hash(token), str(notes["token"])):
        raise Refusal(NOT_FOUND, "there is no file to upload here")
    content = await request.read_body()
    told = {**notes["told"], "size": len(content)}
    shelf = request.service.store.shelf
    await shelf.put(Note(kind=_name(file_id), id="content", body=base64.b64encode(content)))
    await shelf.put(Note(kind=_name(file_id), id="note", body=json.dumps({**notes, "told": told}).encode()))
    return Response(200)


async def get_file(request: Request) -> Answer:
    """Tell of one."""
    return answer(request, (await _find(request, request.params["id"]))["told"])


async def delete_file(request: Request) -> Answer:
    """Forget one; runs that were given it keep what they have."""
    file_id = request.params["id"]
    await _find(request, file_id)
    await _remove(request, file_id)
    return Response(204)


async def replace_uris(request: Request, value: JSON) -> JSON:
    """Return an input with each text that is a URI of ours as the file that it stands for.

    Raises Refusal if together they are larger than a body may be: one may be named any number of times.
    """
    return await _Replacing(request).replace(value)


class _Replacing:
    """Puts files into one input."""

    def __init__(self, request: Request) -> None:
        self._request, self._start = request, f"{_get_place(request)}/files/"
        self._most = self._left = request.service.settings.max_body
        self._known: dict[str, tuple[int, JSON]] = {}

    async def replace(self, value: JSON) -> JSON:
        if isinstance(value, dict):
            return {name: await self.replace(item) for name, item in value.items()}
        if isinstance(value, list):
            return [await self.replace(item) for item in value]
        if not (isinstance(value, str) and value.startswith(self._start) and value.endswith(_END)):
            return value
        file_id = value[len(self._start) : -len(_END)]
        if file_id not in self._known:
            self._known[file_id] = await self._load(file_id)
        size, file = self._known[file_id]
        self._left -= size
        if self._left < 0:
            raise Refusal(
                TOO_LARGE, f"the input's files are larger than the {self._most} bytes that are read"
            )
        return file

    async def _load(self, file_id: str) -> tuple[int, JSON]:
        """Return a file's size, and it as an input has it. Raises Refusal."""
        told = (await _find(self._request, file_id))["told"]
        content = [note.body for note in await _list(self._request, file_id) if note.id == "content"]
        if not content:
            raise Refusal(INVALID, f"the file {file_id} was not uploaded yet")
        data = base64.b64decode(content[0])
        file = File(data=data, filename=told["filename"], content_type=told["content_type"])
        return len(data), encode_files(file)


async def _find(request: Request, file_id: str) -> dict[str, Any]:
    notes = await _load(request, file_id)
    if notes is None or not _may_see(request.caller, notes["key"]):
        raise Refusal(NOT_FOUND, f"there is no file {file_id[:40]!r}")
    return notes


def _may_see(caller: Caller, key: str | None) -> bool:
    return caller.sees_all or caller.key == key


async def _load(request: Request, file_id: str) -> dict[str, Any] | None:
    for note in await _list(request, file_id):
        if note.id == "note":
            read: dict[str, Any] = json.loads(note.body)
            return read
    return None


async def _list(request: Request, file_id: str) -> list[Note]:
    return await request.service.store.shelf.list_notes(_name(file_id))


async def _forget_old(request: Request) -> None:
    now = request.service.clock.now()
    shelf = request.service.store.shelf
    for note in await shelf.claim(_KIND, now=now, until=now + KEPT, limit=_FORGOTTEN_AT_ONCE):
        await _remove(request, note.id)


async def _remove(request: Request, file_id: str) -> None:
    shelf = request.service.store.shelf
    for part in ("content", "note"):
        await shelf.remove(_name(file_id), part)
    await shelf.remove(_KIND, file_id)


def _name(file_id: str) -> str:
    return f"{_KIND}/{file_id}"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _get_place(request: Request) -> str:
    """Return the URL of this API, as the client called it: maybe through a proxy that ends its TLS."""
    host = find_header(request.scope, b"host") or ""
    scheme = find_header(request.scope, b"x-forwarded-proto")
    if scheme not in ("http", "https"):  # whoever makes it up tells it to nobody else
        scheme = request.scope.get("scheme", "http")
    return f"{scheme}://{host}{request.scope.get('root_path', '')}{PREFIX}"
