"""A stand-in for the RPC of Kubo: `add` and `dag/export`, with what real nodes do differently."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from content_server import Answerer, Asked, serve

from gateway.content.car import build_car, encode_car
from gateway.content.cid import Cid, parse_cid
from gateway.content.unixfs import V1_2025, Profile

_WANTED = {"cid-version": "1", "chunker": "size-1048576", "max-file-links": "1024"}


@dataclass
class FakeKubo:
    """`profile` is what it imports with if all parameters were sent; `answer` replaces any answer."""

    profile: Profile = V1_2025
    size_as_number: bool = False
    is_chatty: bool = False
    answer: Answerer | None = None
    swap: bytes | None = None
    cut: int | None = None
    cars: dict[str, bytes] = field(default_factory=dict)
    spell: Any = str

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=405)
        if self.answer is not None:
            return await self.answer(request)
        if request.path == "/api/v0/add":
            return await self._add(request)
        if request.path == "/api/v0/dag/export":
            return self._export(parse_cid(request.query["arg"]))
        return web.Response(status=404, text="404 page not found")

    async def _add(self, request: web.Request) -> web.StreamResponse:
        assert _WANTED.items() <= dict(request.query).items()
        assert request.query["raw-leaves"].lower() == "true"
        boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
        data = (await request.read()).partition(b"\r\n\r\n")[2].partition(b"\r\n--" + boundary)[0]
        cid, car = build_car(self.swap or data, self.profile)
        self.cars[cid.key] = car
        size: Any = len(car) if self.size_as_number else str(len(car))
        lines: list[dict[str, Any]] = [{"Name": "file", "Bytes": 5}] if self.is_chatty else []
        lines.append({"Name": "file", "Hash": self.spell(cid), "Size": size})
        return web.Response(text="\n".join(map(json.dumps, lines)) + "\n", content_type="application/json")

    def _export(self, cid: Cid) -> web.StreamResponse:
        if cid.key not in self.cars:
            text = json.dumps({"Message": f"block was not found locally: {cid}", "Code": 0, "Type": "error"})
            return web.Response(status=500, text=text, content_type="application/json")
        return web.Response(body=self.cars[cid.key][: self.cut], content_type="application/vnd.ipld.car")

    def keep(self, data: bytes, profile: Profile) -> Cid:
        cid, car = build_car(data, profile)
        self.cars[cid.key] = car
        return cid

    def forget_blocks(self, cid: Cid) -> None:
        """As real nodes do: a CAR with its header only, under 200."""
        self.cars[cid.key] = encode_car(cid, ())


@asynccontextmanager
async def serve_kubo(node: FakeKubo) -> AsyncIterator[Asked]:
    async with serve(node.handle) as asked:
        yield asked
