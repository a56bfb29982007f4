"""Files: announced to the API, then put to a signed URL without the API key, then named by their uri."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from gateway.devnet.inferencesh.apps import AppFailure
from gateway.devnet.inferencesh.clock import Clock, format_time
from gateway.devnet.inferencesh.envelopes import Problem, make_answer, read_object
from gateway.devnet.inferencesh.listing import list_page
from gateway.types import JSON

_OWN_URI = re.compile(r"/cdn/(?P<id>[a-z0-9_]+)/")


@dataclass(slots=True)
class StoredFile:
    """One file. `content` is None until it was put."""

    id: str
    filename: str
    content_type: str
    size: int
    path: str
    category: str
    signature: str
    created_at: float
    content: bytes | None = None


class FileStore:
    """The files of one stand-in. `url` is the server's own base URL, set when it listens.

    `leaked_keys_on` lists the ids of the files whose upload carried an Authorization header. A client that
    sends its API key to the storage host has leaked it, and real signed URLs refuse such a request.
    """

    def __init__(self, clock: Clock) -> None:
        self.url = ""
        self.leaked_keys_on: list[str] = []
        self.clock = clock
        self._files: dict[str, StoredFile] = {}

    def make(self, announced: JSON, category: str) -> StoredFile:
        """Take note of a file that is going to be put. Raises Problem 400."""
        if not isinstance(announced, dict):
            raise Problem(400, "validation_error", "each of files has to be an object")
        size = announced.get("size")
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise Problem(400, "validation_error", "size has to be a number of bytes")
        file = StoredFile(
            id="file_" + secrets.token_hex(10),
            filename=announced.get("filename") or "file",
            content_type=announced.get("content_type") or "application/octet-stream",
            size=size or 0,
            path=announced.get("path") or "",
            category=category,
            signature=secrets.token_hex(16),
            created_at=self.clock.now(),
        )
        self._files[file.id] = file
        return file

    def get(self, file_id: str) -> StoredFile:
        """Return a file, or raise Problem 404."""
        file = self._files.get(file_id)
        if file is None:
            raise Problem(404, "not_found", f"file {file_id} not found")
        return file

    def get_all(self) -> list[StoredFile]:
        """Return all files, the oldest first."""
        return list(self._files.values())

    def delete(self, file_id: str) -> None:
        """Delete a file, or raise Problem 404."""
        del self._files[self.get(file_id).id]

    def find(self, value: JSON) -> list[StoredFile]:
        """Return the files whose uris appear anywhere in a JSON value, each once."""
        found: dict[str, StoredFile] = {}
        pending = [value]
        while pending:
            item = pending.pop()
            if isinstance(item, dict):
                pending.extend(item.values())
            elif isinstance(item, list):
                pending.extend(item)
            elif isinstance(item, str) and (match := _OWN_URI.search(item)) and match["id"] in self._files:
                found[match["id"]] = self._files[match["id"]]
        return list(found.values())

    def read(self, uri: str) -> bytes:
        """Return the bytes behind a uri, as a worker that fetches it. Raises AppFailure."""
        files = self.find(uri)
        content = files[0].content if files else None
        if content is None:
            raise AppFailure(f"failed to download {uri}: not found")
        return content

    def make_uri(self, file: StoredFile) -> str:
        """Return the address under which anybody can read the file."""
        return f"{self.url}/cdn/{file.id}/{quote(file.filename)}"

    def encode(self, file: StoredFile, *, with_upload: bool = False) -> JSON:
        """Return the FileDTO of the wire; only the answer to the announcement has the `upload_url`."""
        upload_url = f"{self.url}/uploads/{file.id}?X-Amz-Expires=3600&X-Amz-Signature={file.signature}"
        return {
            "id": file.id,
            "short_id": file.id[-8:],
            "created_at": format_time(file.created_at),
            "updated_at": format_time(file.created_at),
            "uri": self.make_uri(file),
            **({"upload_url": upload_url} if with_upload else {}),
            "filename": file.filename,
            "content_type": file.content_type,
            "size": file.size if file.content is None else len(file.content),
            "path": file.path,
            "remote_path": f"files/{file.id}",
            "category": file.category,
            "rating": "unrated",
            "metadata": None,
        }


class FileRoutes:
    """The routes of files."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_post("/files", self.announce)
        router.add_post("/files/list", self.show_list)
        router.add_get("/files/{id}", self.show)
        router.add_delete("/files/{id}", self.delete)
        router.add_put("/uploads/{id}", self.put)
        router.add_get("/cdn/{id}/{filename}", self.download)

    async def announce(self, request: web.Request) -> web.Response:
        """`POST /files`: one FileDTO with an `upload_url` for each announced file, in order."""
        body = await read_object(request)
        announced = body.get("files")
        if not isinstance(announced, list) or not announced:
            raise Problem(400, "validation_error", "files has to be a list with at least one file")
        files = [self._files.make(item, body.get("category") or "") for item in announced]
        return make_answer(request, [self._files.encode(file, with_upload=True) for file in files])

    async def put(self, request: web.Request) -> web.Response:
        """`PUT <upload_url>`: raw bytes with the announced content type, a length and no Authorization."""
        file = self._files.get(request.match_info["id"])
        if "Authorization" in request.headers:
            self._files.leaked_keys_on.append(file.id)
            return _refuse(400, "InvalidArgument", "Only one auth mechanism allowed")
        if request.query.get("X-Amz-Signature") != file.signature:
            return _refuse(403, "SignatureDoesNotMatch", "The signature is not the one that was issued")
        if request.headers.get("Content-Type", "") != file.content_type:
            return _refuse(403, "SignatureDoesNotMatch", f"Content-Type has to be {file.content_type}")
        if request.content_length is None:
            return _refuse(411, "MissingContentLength", "You must provide the Content-Length HTTP header")
        file.content = await request.read()
        return web.Response(status=200)

    async def download(self, request: web.Request) -> web.Response:
        """`GET <uri>`: the bytes, for anybody."""
        file = self._files.find(request.path)
        if not file or file[0].content is None:
            return _refuse(404, "NoSuchKey", "The specified key does not exist")
        return web.Response(body=file[0].content, headers={"Content-Type": file[0].content_type})

    async def show(self, request: web.Request) -> web.Response:
        """`GET /files/{id}`."""
        return make_answer(request, self._files.encode(self._files.get(request.match_info["id"])))

    async def show_list(self, request: web.Request) -> web.Response:
        """`POST /files/list`."""
        items = [self._files.encode(file) for file in self._files.get_all()]
        return make_answer(request, list_page(items, await read_object(request)))

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /files/{id}`."""
        self._files.delete(request.match_info["id"])
        return web.Response(status=204)


def _refuse(status: int, code: str, message: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")
