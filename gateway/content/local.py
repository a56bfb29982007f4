"""Content in a folder: the embedded default, and the cache in front of all others."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from gateway.content.cid import Cid
from gateway.content.errors import ContentNotFound, ContentTampered, ContentTooLarge
from gateway.content.proofs import limit_time
from gateway.content.protocol import PAYLOAD_BYTES, PAYLOAD_SECONDS, Stored
from gateway.content.unixfs import V1_2025, Profile, compute_cid, find_profile
from gateway.errors import StoreError

_NAME = "local content"


class LocalStore:
    """Files named by their CIDs: `<folder>/<2 last characters>/<version 1 text>`.

    Files appear whole or not at all, also in a crash. Each is proven again whenever it is read; a damaged one
    is renamed to `.damaged` and treated as missing from then on. Nothing is ever deleted here.
    """

    def __init__(self, folder: Path, *, profile: Profile = V1_2025) -> None:
        """Use a folder, which is made when it is needed."""
        self._folder = folder
        self._profile = profile

    async def put(
        self, data: bytes, *, filename: str = "file", content_type: str = "application/octet-stream"
    ) -> Stored:
        """Store bytes. The name and the type are not kept. Raises StoreError if the disk refuses."""
        del filename, content_type
        cid = await asyncio.to_thread(self._put, data)
        return Stored(cid, len(data), f"ipfs://{cid}", self._profile.name)

    async def keep(self, cid: Cid, data: bytes) -> bool:
        """Keep verified bytes under a CID that others gave them; say whether they were kept.

        Bytes whose CID no known profile gives can't be proven again from a file, so they are not kept.
        Raises StoreError.
        """
        return await asyncio.to_thread(self._keep, cid, data)

    async def fetch(
        self, cid: Cid, *, max_bytes: int = PAYLOAD_BYTES, timeout: float | None = PAYLOAD_SECONDS
    ) -> bytes:
        """Read a file. Raises ContentNotFound, ContentTooLarge, ContentTampered (and sets it aside)."""
        async with limit_time(timeout, f"reading {cid}"):
            return await asyncio.to_thread(self._load, cid, max_bytes)

    async def has(self, cid: Cid) -> bool:
        """Say whether there is a file of that name, unread."""
        return await asyncio.to_thread(self._get_path(cid).exists)

    async def aclose(self) -> None:
        """Nothing is open between two calls."""

    def _get_path(self, cid: Cid) -> Path:
        return self._folder / cid.key[-2:] / cid.key

    def _put(self, data: bytes) -> Cid:
        cid = compute_cid(data, self._profile)
        self._write(cid, data)
        return cid

    def _keep(self, cid: Cid, data: bytes) -> bool:
        if find_profile(data, cid) is None:
            return False
        self._write(cid, data)
        return True

    def _write(self, cid: Cid, data: bytes) -> None:
        path = self._get_path(cid)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write_whole(path, data)
        except OSError as error:
            raise StoreError(f"content can't be written to {path.parent}: {error}") from error

    def _write_whole(self, path: Path, data: bytes) -> None:
        if path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def _load(self, cid: Cid, max_bytes: int) -> bytes:
        path = self._get_path(cid)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > max_bytes:
                    raise ContentTooLarge(f"{cid} has {size} bytes, the limit is {max_bytes}", backend=_NAME)
                data = file.read()
        except FileNotFoundError as error:
            raise ContentNotFound(f"{cid} is not here", backend=_NAME) from error
        except OSError as error:
            raise StoreError(f"content can't be read from {path}: {error}") from error
        if find_profile(data, cid) is None:
            with suppress(OSError):  # whoever read it at the same time was quicker, or the disk is read-only
                path.replace(path.with_suffix(".damaged"))
            raise ContentTampered(f"the file of {cid} was damaged; it is set aside", backend=_NAME)
        return data


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be synced (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
