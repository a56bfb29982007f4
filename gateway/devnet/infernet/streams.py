"""Streams: the job's id on the first line, then the container's bytes; the truth is only in the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import web

from gateway.devnet.faults import Fault
from gateway.devnet.infernet.containers import Container
from gateway.devnet.infernet.jobs import JobTable, Runner
from gateway.devnet.infernet.messages import JobMessage
from gateway.devnet.infernet.wire import HTML, SERVER, cut, encode_json
from gateway.types import JSON


class _StruckError(Exception):
    """An armed fault ends the stream here."""


class _GoneError(Exception):
    """The client has closed the connection."""


async def _read_output(container: Container, data: JSON) -> AsyncGenerator[bytes, None]:
    """Yield what a container sends to a node that asked for a stream: JSON, if it knows no streams."""
    if container.stream is None:
        yield encode_json(await container.run(data))
        return
    async with aclosing(container.stream(data)) as pieces:
        async for piece in pieces:
            yield piece


class Streams:
    """Serves streaming jobs. Only the first container runs, whatever the list says."""

    def __init__(self, table: JobTable, runner: Runner, limit_seconds: float) -> None:
        self._table = table
        self._runner = runner
        self._limit_seconds = limit_seconds

    async def serve(
        self, request: web.BaseRequest, headers: Mapping[str, str], message: JobMessage, fault: Fault | None
    ) -> web.StreamResponse:
        """Accept the job and stream it; `headers` go into the answer.

        The connection is cut without a last chunk when the limit is reached or a fault strikes. Then, and
        when the client goes away, the container's work is cancelled and the job stays "running".
        """
        key = self._runner.accept(message)
        base = {"content-type": HTML, "server": SERVER}
        response = web.StreamResponse(status=200, reason="", headers={**base, **headers})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            async with asyncio.timeout(self._limit_seconds) as limit:
                await _write(response, f"{message.id}\n".encode())
                await self._pour(response, key, message, fault)
        except _StruckError:
            cut(request)
        except TimeoutError:
            if not limit.expired():
                raise
            cut(request)
        except (_GoneError, ConnectionError):
            return response
        return response

    async def drain(self, message: JobMessage) -> None:
        """Accept the job and run it to its end without anybody listening."""
        key = self._runner.accept(message)
        await self._pour(None, key, message, None)

    async def _pour(
        self,
        response: web.StreamResponse | None,
        key: tuple[str, str],
        message: JobMessage,
        fault: Fault | None,
    ) -> None:
        """Send the container's bytes on and write down how it ended."""
        container = self._runner.containers[message.containers[0]]
        said = bytearray()
        output = _read_output(container, message.data)
        try:
            async with aclosing(output):
                async for piece in output:
                    said += piece
                    if response is not None:
                        await _write_or_strike(response, piece, fault)
            result: JSON = {"container": container.id, "output": {"output": said.decode()}}
        except (_GoneError, _StruckError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever happens to a container is the job's failure
            self._table.set_finished(key, "failed", [{"container": container.id, "error": str(error)}])
        else:
            self._table.set_finished(key, "success", [result])


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    try:
        await response.write(piece)
    except ConnectionError as error:
        raise _GoneError from error


async def _write_or_strike(response: web.StreamResponse, piece: bytes, fault: Fault | None) -> None:
    """Send a piece; under a fault only the half of it, and then nothing or the end."""
    if fault is None:
        await _write(response, piece)
        return
    await _write(response, piece[: max(1, len(piece) // 2)])
    if fault is Fault.STALL_STREAM:
        await asyncio.Event().wait()
    raise _StruckError
