"""Stand-in for OGPU's pin service and for an IPFS gateway: real CIDs, real blocks, and faults."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.content.car import encode_car
from gateway.content.cid import Cid, parse_cid
from gateway.content.unixfs import V0_2015, Builder
from gateway.devnet.chain.chain_faults import ArmedFaults
from gateway.devnet.chain.rpc_front import Counters

if TYPE_CHECKING:
    from aiohttp import web

PIN, READ = "pin", "read"
_HUGE_BYTES = 64 * 2**20
_CHUNK_BYTES = 64 * 1024
_BODY_BYTES = 256 * 2**20
_RAW, _CAR = "application/vnd.ipld.raw", "application/vnd.ipld.car"


class ContentFault(StrEnum):
    """A way in which the pin service or the gateway misbehaves."""

    REFUSE = "refuse"  # the connection is reset, nothing is carried out
    HANG = "hang"  # never answered
    DOWN = "down"  # 503
    SERVER_ERROR = "server_error"  # 500
    RATE_LIMIT = "rate_limit"  # 429 with Retry-After: 0
    TOO_LARGE = "too_large"  # 413
    GARBAGE = "garbage"  # 200 and a page of HTML
    ANSWER_LOST = "answer_lost"  # pinned, then the connection is reset
    NO_LINK = "no_link"  # 200 and an object without a link
    WRONG_LINK = "wrong_link"  # 200 and a link to other content
    FOREIGN_LINK = "foreign_link"  # 200 and a link to the right content on a host that nobody is
    MISSING = "missing"  # 404
    TAMPER = "tamper"  # the last byte of the content is another one
    TRUNCATE = "truncate"  # the second half does not come, and the answer ends as if it were whole
    SWAP = "swap"  # other content, sound in itself
    SLOW = "slow"  # the answer begins after `slow_seconds`
    HUGE = "huge"  # bytes without end (64 MiB)


_PIN_ONLY = ("answer_lost", "no_link", "wrong_link", "foreign_link", "too_large")
_READ_ONLY = ("missing", "tamper", "truncate", "swap", "huge")
USUAL: Mapping[ContentFault, tuple[str, ...]] = {
    **{ContentFault(name): (PIN,) for name in _PIN_ONLY},
    **{ContentFault(name): (READ,) for name in _READ_ONLY},
}
_STATUSES = {
    ContentFault.DOWN: 503,
    ContentFault.SERVER_ERROR: 500,
    ContentFault.RATE_LIMIT: 429,
    ContentFault.TOO_LARGE: 413,
    ContentFault.MISSING: 404,
}
_OTHER = b'{"this": "is something else"}'


class ContentHost:
    """A pin service at `/file/create` and a gateway at `/ipfs/<cid>`, trustless reads included.

    `journal` holds every CID that was pinned, in order; `faults` are armed for "pin" and "read".
    """

    def __init__(self, port: int = 0) -> None:
        self.faults = ArmedFaults(ContentFault, USUAL, (PIN, READ))
        self.counters = Counters()
        self.journal: list[str] = []
        self.slow_seconds = 1.0
        self._files: dict[Cid, tuple[bytes, dict[Cid, bytes]]] = {}
        self._port = port
        self._runner: web.AppRunner | None = None
        self.put(_OTHER)

    @property
    def gateway_url(self) -> str:
        """Where content is read: `<gateway_url>/ipfs/<cid>`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pin_url(self) -> str:
        """Where files are posted to."""
        return f"{self.gateway_url}/file/create"

    async def start(self) -> None:
        """Listen; the port stays the same over stop and start. Raises OSError if it is taken."""
        from aiohttp import web

        if self._runner is not None:
            return
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_post("/file/create", self._pin)
        app.router.add_get("/ipfs/{cid}", self._read)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=256).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; what is pinned stays."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def put(self, data: bytes) -> Cid:
        """Take content in, as pinning does, without faults."""
        blocks: dict[Cid, bytes] = {}
        builder = Builder(V0_2015, blocks.__setitem__)
        builder.update(data)
        root = builder.finish()
        self._files[root] = (data, blocks)
        return root

    def get(self, cid: Cid) -> bytes:
        """Return content, without faults. Raises KeyError."""
        return self._files[cid][0]

    def spoil(self, cid: Cid) -> None:
        """Let the content of that CID be another one from now on, for everybody."""
        self._files[cid] = self._files[self.put(_OTHER)]

    def make_link(self, cid: Cid) -> str:
        """Make the URL that the pin service answers with."""
        return f"{self.gateway_url}/ipfs/{cid}"

    async def _pin(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        form = await request.post()
        self._count(PIN)
        fault = self.faults.take(PIN, tuple(ContentFault))
        refused = await self._refuse(request, fault)
        if refused is not None:
            return refused
        file = form.get("file")
        if not isinstance(file, web.FileField):
            return web.json_response({"message": "file is required"}, status=400)
        cid = self.put(file.file.read())
        self.journal.append(str(cid))
        if fault is ContentFault.ANSWER_LOST:
            return _reset(request)
        if fault is ContentFault.NO_LINK:
            return web.json_response({"ok": True})
        link = self.make_link(self.put(_OTHER) if fault is ContentFault.WRONG_LINK else cid)
        if fault is ContentFault.FOREIGN_LINK:
            link = f"http://127.0.0.1:1/ipfs/{cid}"
        return web.json_response({"link": link}, status=201)

    async def _read(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        self._count(READ)
        fault = self.faults.take(READ, tuple(ContentFault))
        refused = await self._refuse(request, fault)
        if refused is not None:
            return refused
        if fault is ContentFault.HUGE:
            return await _pour(request)
        cid = parse_cid(request.match_info["cid"])
        served = self._files.get(self.put(_OTHER) if fault is ContentFault.SWAP else cid)
        if served is None:
            return web.Response(status=404, text="no such content")
        body, kind = _choose(request, served)
        if fault is ContentFault.TAMPER:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault is ContentFault.TRUNCATE:
            body = body[: len(body) // 2]
        return web.Response(body=body, content_type=kind)

    async def _refuse(self, request: web.Request, fault: ContentFault | None) -> web.StreamResponse | None:
        """Answer for the faults that need no content; None: go on."""
        from aiohttp import web

        if fault is ContentFault.HANG:
            await asyncio.Event().wait()  # until the client or the server closes the connection
        if fault is ContentFault.SLOW:
            await asyncio.sleep(self.slow_seconds)
        if fault is ContentFault.REFUSE:
            return _reset(request)
        if fault is ContentFault.GARBAGE:
            return web.Response(text="<!doctype html><h1>It works!</h1>", content_type="text/html")
        if fault in _STATUSES:
            headers = {"Retry-After": "0"} if fault is ContentFault.RATE_LIMIT else None
            return web.Response(status=_STATUSES[fault], text=fault.value, headers=headers)
        return None

    def _count(self, operation: str) -> None:
        self.counters.http_requests += 1
        self.counters.calls[operation] += 1


def _choose(request: web.Request, served: tuple[bytes, dict[Cid, bytes]]) -> tuple[bytes, str]:
    """Answer in the format that is asked for: a block, a CAR of all blocks, or the file."""
    data, blocks = served
    accepted = request.headers.get("Accept", "")
    wanted = request.query.get("format") or next((f for f in ("raw", "car") if f"ipld.{f}" in accepted), "")
    root = next(reversed(blocks))  # children come before their parents
    if wanted == "raw":
        return blocks[root], _RAW
    if wanted == "car":
        return encode_car(root, reversed(blocks.items())), _CAR
    return data, "application/octet-stream"


def _reset(request: web.Request) -> web.Response:
    from aiohttp import web

    from gateway.devnet.inferencesh.connections import abort

    abort(request)
    return web.Response()


async def _pour(request: web.Request) -> web.StreamResponse:
    from aiohttp import web

    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(_HUGE_BYTES // _CHUNK_BYTES):
        await response.write(bytes(_CHUNK_BYTES))
    return response
