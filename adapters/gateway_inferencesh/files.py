"""Files of an input: announced to the API, put to the address that it signs, replaced by their uri.

Only what the caller marked as a File is a file; no string is ever looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from gateway.errors import BackendError, InDoubt, Misbehaved, Unavailable
from gateway.files import File, encode_files, has_files, replace_files
from gateway.types import JSON
from gateway_inferencesh.api import Api, make_path
from gateway_inferencesh.errors import make_error

MAX_UPLOADS = 8
"""At the same time."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands in an input where the uri of a file will be."""

    number: int


class Files:
    """The files of an account."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def replace(self, value: JSON) -> JSON:
        """Upload every File of an input and return the input with their uris in the files' places.

        Raises:
            InvalidInput: a file can't be read.
            Rejected: the backend or its storage refuses one.
            Unavailable: they can't be uploaded now.
        """
        value = encode_files(value)
        if not has_files(value):
            return value
        files: list[File] = []

        async def take(file: File) -> JSON:
            files.append(file)
            return _Place(len(files) - 1)

        with_places = await replace_files(value, take)
        return _fill(with_places, await self.upload(*files))

    async def upload(self, *files: File) -> list[str]:
        """Upload files, several at a time, and return their uris in order. Raises as `replace` does."""
        if not files:
            return []
        loaded = [await anyio.to_thread.run_sync(file.load) for file in files]
        announced = [
            {
                "uri": "",
                "filename": file.name,
                "content_type": content_type,
                "path": file.name,
                "size": len(data),
            }
            for file, (data, content_type) in zip(files, loaded, strict=True)
        ]
        places = await self._announce(announced)
        slots = asyncio.Semaphore(MAX_UPLOADS)
        try:
            async with asyncio.TaskGroup() as group:
                for (url, _), (data, content_type) in zip(places, loaded, strict=True):
                    group.create_task(self._put(slots, url, data, content_type))
        except* BackendError as errors:
            raise _get_first(errors) from errors
        return [uri for _, uri in places]

    async def delete(self, file_id: str) -> None:
        """Delete a file."""
        await self._api.call("DELETE", make_path("files", file_id), what=f"delete file {file_id}")

    async def _announce(self, announced: Sequence[JSON]) -> list[tuple[str, str]]:
        """Return upload address and uri of each file. It costs nothing, so a lost answer leaves no doubt."""
        try:
            told = await self._api.fetch_list("POST", "/files", what="upload", json={"files": announced})
            places = [(str(item["upload_url"]), str(item["uri"])) for item in told]
        except (Misbehaved, InDoubt) as error:
            raise Unavailable(error.message, backend=self._api.backend) from error
        except (KeyError, TypeError) as error:
            raise Unavailable(f"upload: a file has no {error}", backend=self._api.backend) from error
        if len(places) != len(announced):
            raise Unavailable(
                f"upload: {len(announced)} files were announced and {len(places)} were given a place",
                backend=self._api.backend,
            )
        if not all(_is_web_address(url) for url, _ in places):
            raise Unavailable("upload: an upload address is none", backend=self._api.backend)
        return places

    async def _put(self, slots: asyncio.Semaphore, url: str, data: bytes, content_type: str) -> None:
        async with slots:
            answer = await self._api.http.put_elsewhere(url, data, content_type=content_type)
        if not 200 <= answer.status < 300:
            raise make_error(answer, "upload to storage", backend=self._api.backend, lands=False)


def _is_web_address(url: str) -> bool:
    import httpx2

    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return address.scheme in ("http", "https") and bool(address.host) and (address.port or 0) < 2**16


def _fill(value: JSON, uris: Sequence[str]) -> JSON:
    if isinstance(value, _Place):
        return uris[value.number]
    if isinstance(value, dict):
        return {name: _fill(item, uris) for name, item in value.items()}
    return [_fill(item, uris) for item in value] if isinstance(value, list) else value


def _get_first(errors: BaseExceptionGroup[BackendError]) -> BackendError:
    first = errors.exceptions[0]
    return _get_first(first) if isinstance(first, BaseExceptionGroup) else first
