"""Proving content without holding up the event loop: more than a MiB is hashed in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from gateway.content.car import CarReader
from gateway.content.cid import RAW, Cid
from gateway.content.errors import ContentSwapped, ContentTooLarge, ContentTruncated
from gateway.content.unixfs import find_profile
from gateway.errors import Unavailable
from gateway.http import StreamAnswer

_P = ParamSpec("_P")
_T = TypeVar("_T")
_THREAD_FROM_BYTES = 1 << 20


async def compute_off_loop(
    size_bytes: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Do pure work on that many bytes, in a thread if they are many."""
    if size_bytes <= _THREAD_FROM_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def prove_stored(data: bytes, cid: Cid, read_back: Callable[[Cid], Awaitable[bytes]]) -> str:
    """Prove that `cid`, which a service answered, is what these bytes are; return how (`Stored.proof`).

    If no known import profile gives the CID, what it names is read back (verified) and compared. Raises
    ContentSwapped if it is something else, and what `read_back` raises.
    """
    profile = await compute_off_loop(len(data), find_profile, data, cid)
    if profile is not None:
        return profile.name
    swapped = f"{cid}, the answer to an upload, is other content than was uploaded"
    if cid.codec == RAW:
        raise ContentSwapped(swapped)
    try:
        stored = await read_back(cid)
    except ContentTooLarge as error:
        raise ContentSwapped(swapped) from error
    if stored != data:
        raise ContentSwapped(swapped)
    return "read back"


async def receive_car(answer: StreamAnswer, cid: Cid, *, max_bytes: int) -> bytes:
    """Read a CAR as it comes and return its file. Raises as CarReader does."""
    reader = CarReader(cid, max_bytes=max_bytes)
    async for chunk in iterate_body(answer):
        reader.feed(chunk)
    return await asyncio.to_thread(reader.finish)  # a small CAR can be a large file


async def receive_body(answer: StreamAnswer, *, max_bytes: int) -> bytes:
    """Read a body up to a limit. Raises ContentTooLarge as soon as it is known, and ContentTruncated."""
    declared = answer.headers.get("content-length", "")
    too_large = f"the answer has more than the limit of {max_bytes} bytes"
    if declared.isdecimal() and int(declared) > max_bytes:
        raise ContentTooLarge(too_large)
    body = bytearray()
    async for chunk in iterate_body(answer):
        body += chunk
        if len(body) > max_bytes:
            raise ContentTooLarge(too_large)
    return bytes(body)


async def iterate_body(answer: StreamAnswer) -> AsyncIterator[bytes]:
    """Yield a body that breaks off with ContentTruncated."""
    try:
        async for chunk in answer.aiter_bytes():
            yield chunk
    except Unavailable as error:
        raise ContentTruncated(error.message) from error


@asynccontextmanager
async def limit_time(seconds: float | None, what: str) -> AsyncIterator[None]:
    """Turn the end of the time for `what` into Unavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable(f"{what} took longer than {seconds:g} s") from error
