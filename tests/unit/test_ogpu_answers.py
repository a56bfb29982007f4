"""Answers of providers: read beside each other, and not all kept for ever."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.content.cid import Cid, make_cid
from gateway.errors import Unavailable
from gateway_ogpu import answers as module
from gateway_ogpu.answers import Answers

pytestmark = pytest.mark.anyio


class Gateway:
    """Content by its CID; what is in `held` comes only when it is let go."""

    def __init__(self) -> None:
        self.held: dict[Cid, asyncio.Event] = {}
        self.files: dict[Cid, bytes] = {}
        self.reads = 0

    def put(self, data: bytes, *, held: bool = False) -> str:
        cid = make_cid(data)
        self.files[cid] = data
        if held:
            self.held[cid] = asyncio.Event()
        return f"ipfs://{cid}"

    async def fetch(self, cid: Cid, *, max_bytes: int) -> bytes:
        self.reads += 1
        if cid in self.held:
            await self.held[cid].wait()
        if cid not in self.files:
            raise Unavailable("nobody has it")
        assert len(self.files[cid]) <= max_bytes
        return self.files[cid]


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def answers(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Answers:
    monkeypatch.setattr(module, "_KEPT_BYTES", 1000)
    connection: Any = SimpleNamespace(content=gateway, config=SimpleNamespace(max_content_bytes=10**6))
    return Answers(connection)


async def test_a_slow_answer_holds_up_no_other(gateway: Gateway, answers: Answers) -> None:
    slow, quick = gateway.put(b'"slow"', held=True), gateway.put(b'"quick"')
    found = await answers.read_many([slow, quick], wait_seconds=0.01)
    assert (found[quick].output, found[slow].may_come, found[slow].output) == ("quick", True, None)
    again = asyncio.create_task(answers.read_many([slow], wait_seconds=None))
    await asyncio.sleep(0)
    [let_go] = gateway.held.values()
    let_go.set()
    assert (await again)[slow].output == "slow"
    assert gateway.reads == 2


async def test_it_says_how_the_last_try_went(gateway: Gateway, answers: Answers) -> None:
    url = gateway.put(b'"slow"', held=True)
    [cid] = gateway.held
    del gateway.files[cid]
    gateway.held[cid].set()
    assert (await answers.read_many([url]))[url].reason == "nobody has it"
    gateway.held[cid].clear()
    assert (await answers.read_many([url], wait_seconds=0.01))[url].reason == "nobody has it"
    await answers.aclose()
    assert not answers._reading


async def test_what_is_kept_is_bounded_by_its_bytes(gateway: Gateway, answers: Answers) -> None:
    urls = [gateway.put(b'"%d%s"' % (number, b"x" * 100)) for number in range(50)]
    for url in urls:
        found = await answers.read_many([url, urls[0]])
        assert found[url].reason is None
    assert sum(one.size_bytes for one in answers._kept.values()) <= 1000
    assert gateway.reads == 50, "what is in use is not read again"
    await answers.read_many(urls[1:2])
    assert gateway.reads == 51
