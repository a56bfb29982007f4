"""The RPC's errors, from a server on the loopback that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from gateway.chain import rpc
from gateway.chain.rpc import Reverted, RpcRefused, make_web3
from gateway.errors import BackendError, ConfigError, InDoubt, Misbehaved, Rejected, Throttled, Unavailable

pytestmark = pytest.mark.anyio

Kind = type[BackendError]
Answer = Callable[[Any], web.StreamResponse]


class Server:
    """Answers each request with `answer(json)` and counts them."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: web.Response(status=500)
        self.asked: list[Any] = []
        self.web3: Any = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        return self.answer(self.asked[-1])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/secret-key", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.web3 = make_web3(f"http://127.0.0.1:{port}/secret-key", timeout_seconds=5)
    yield server
    await server.web3.provider.disconnect()
    await runner.cleanup()


def reply(question: dict[str, Any], **what: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": question["id"], **what}


async def test_a_result(server: Server) -> None:
    server.answer = lambda q: web.json_response(reply(q, result="0x7a69"))
    assert await rpc.fetch_chain_id(server.web3) == 31337


@pytest.mark.parametrize(
    ("status", "kind"), [(429, Throttled), (500, Unavailable), (503, Unavailable), (401, Rejected)]
)
async def test_http_errors_are_asked_once_and_show_no_url(server: Server, status: int, kind: Kind) -> None:
    server.answer = lambda _: web.Response(status=status)
    with pytest.raises(kind) as caught:
        await rpc.request(server.web3, "eth_chainId", [])

    assert len(server.asked) == 1
    assert caught.value.http_status == status
    assert "secret-key" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("status", "kind"), [(429, Throttled), (500, InDoubt), (503, Unavailable), (401, Rejected)]
)
async def test_what_may_have_landed_is_in_doubt(server: Server, status: int, kind: Kind) -> None:
    server.answer = lambda _: web.Response(status=status)
    with pytest.raises(kind), rpc.translated("sending", lands=True):
        await server.web3.eth.send_raw_transaction(b"\x01")
    assert len(server.asked) == 1


@pytest.mark.parametrize(("said", "seconds"), [("7", 7), ("soon", None)])
async def test_how_long_to_wait(server: Server, said: str, seconds: int | None) -> None:
    server.answer = lambda _: web.Response(status=429, headers={"Retry-After": said})
    with pytest.raises(Throttled) as caught:
        await rpc.request(server.web3, "eth_chainId", [])
    assert caught.value.retry_after == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize("body", ["<html>", "[]", "3", "null", "{}", '"text"'])
async def test_garbage(server: Server, body: str) -> None:
    server.answer = lambda _: web.Response(text=body, content_type="application/json")
    with pytest.raises(Misbehaved):
        await rpc.request(server.web3, "eth_chainId", [])


async def test_no_answer(server: Server) -> None:
    def hang_up(_: Any) -> web.StreamResponse:
        raise ConnectionResetError

    server.answer = hang_up
    web3 = make_web3(str(server.web3.provider.endpoint_uri), timeout_seconds=0.001)
    with pytest.raises(Unavailable):
        await rpc.request(web3, "eth_chainId", [])
    with pytest.raises(InDoubt), rpc.translated("sending", lands=True):
        raise TimeoutError
    await web3.provider.disconnect()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 3, "message": "execution reverted", "data": "0x10c74b03"}, Reverted),
        ({"code": -32000, "message": "execution reverted"}, Reverted),
        ({"code": -32603, "message": "VM: revert", "data": {"data": "0x10c74b03"}}, Reverted),
        ({"code": -32005, "message": "limit exceeded"}, Throttled),
        ({"code": -32000, "message": "header not found"}, RpcRefused),
        ("only words", RpcRefused),
    ],
)
async def test_error_objects(server: Server, error: Any, kind: Kind) -> None:
    server.answer = lambda q: web.json_response(reply(q, error=error))
    with pytest.raises(kind) as caught:
        await rpc.request(server.web3, "eth_call", [])
    if kind is Reverted:
        wanted = "10c74b03" if "data" in error else ""
        assert isinstance(caught.value, Reverted)
        assert caught.value.data.hex() == wanted


async def test_batches_keep_their_order(server: Server) -> None:
    def answer(questions: Any) -> web.StreamResponse:
        return web.json_response([reply(q, result=hex(q["params"][0])) for q in reversed(questions)])

    server.answer = answer
    results = await rpc.request_many(server.web3, [("any", [number]) for number in range(250)])

    assert results == [hex(number) for number in range(250)]
    assert [len(asked) for asked in server.asked] == [100, 100, 50]


async def test_nothing_to_ask(server: Server) -> None:
    assert await rpc.request_many(server.web3, []) == []
    assert server.asked == []


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_batch_with_the_wrong_number_of_answers(server: Server, count: int) -> None:
    def answer(questions: Any) -> web.StreamResponse:
        return web.json_response([reply(questions[0], result="0x1")] * count)

    server.answer = answer
    with pytest.raises(Misbehaved):
        await rpc.request_many(server.web3, [("any", [])] * 2)


@pytest.mark.parametrize("body", [[1, 2], ["a", None], [{}, {}], [{"id": None}, {"id": "x"}]])
@pytest.mark.filterwarnings("ignore:Received batch response:RuntimeWarning")  # web3 hopes; we do not
async def test_a_batch_of_garbage(server: Server, body: Any) -> None:
    server.answer = lambda _: web.json_response(body)
    with pytest.raises(Misbehaved):
        await rpc.request_many(server.web3, [("any", [])] * 2)


async def test_one_error_for_a_whole_batch(server: Server) -> None:
    server.answer = lambda q: web.json_response(reply(q[0], error={"code": -32005, "message": "limit"}))
    with pytest.raises(Throttled):
        await rpc.request_many(server.web3, [("any", [])] * 2)


async def test_one_error_in_a_batch(server: Server) -> None:
    def answer(questions: Any) -> web.StreamResponse:
        first, second = questions
        return web.json_response([reply(first, result="0x"), reply(second, error={"code": 3, "message": ""})])

    server.answer = answer
    with pytest.raises(Reverted):
        await rpc.request_many(server.web3, [("any", [])] * 2)


@pytest.mark.parametrize("log", [{}, {"address": "0x"}, 3, None])
async def test_logs_that_are_none(server: Server, log: Any) -> None:
    server.answer = lambda q: web.json_response(reply(q, result=[log]))
    with pytest.raises(Misbehaved):
        await rpc.fetch_logs(server.web3, "0x", [], first=0, last=1)


async def test_a_block_that_is_not_there(server: Server) -> None:
    server.answer = lambda q: web.json_response(reply(q, result=None))
    with pytest.raises(Unavailable):
        await rpc.fetch_blocks(server.web3, [7])
    with pytest.raises(Misbehaved):
        await rpc.fetch_head(server.web3)


def test_what_is_no_url() -> None:
    with pytest.raises(ConfigError, match="begins with http") as caught:
        make_web3("wss://host/secret")
    assert "secret" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "web3", None)
    with pytest.raises(ConfigError, match=r"pip install .*web3"):
        make_web3("http://127.0.0.1:1")


async def test_cancelling_stays_cancelling(server: Server) -> None:
    with pytest.raises(asyncio.CancelledError), rpc.translated("anything"):
        raise asyncio.CancelledError
