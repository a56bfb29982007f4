"""Delegated subscriptions at the Infernet stand-in: the REST part, and the seam to a chain."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from gateway.devnet.infernet import ChainSide, Container, InfernetNode, make_containers
from gateway.devnet.infernet.delegated import OutputOf, find_containers, make_containers_hash

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
OWNER = "0x663F3ad617193148711d28f5334eE4Ed07016602"
ZERO = "0x" + "0" * 40
MESSAGE_TYPE = "Object of type MessageType is not JSON serializable"


class Side:
    """A chain side that runs the containers once and keeps what it saw."""

    address = "0x60985ee8192B322c3CAbA97A9A9f7298bdc4335C"

    def __init__(self) -> None:
        self.seen: list[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]] = []
        self.outputs: list[Any] = []
        self.done = asyncio.Event()

    async def deliver(
        self,
        subscription: Mapping[str, Any],
        signature: Mapping[str, Any],
        data: Mapping[str, Any],
        output_of: OutputOf,
    ) -> None:
        self.seen.append((subscription, signature, data))
        try:
            self.outputs.append(await output_of(data))
        finally:
            self.done.set()


def make_body(containers: str | None = None, expires_in: int = 600, **more: Any) -> dict[str, Any]:
    subscription = {
        "owner": OWNER,
        "active_at": 0,
        "period": 0,
        "frequency": 1,
        "redundancy": 1,
        "containers": containers or make_containers_hash(["echo"]).hex(),
        "lazy": False,
        "verifier": ZERO,
        "payment_amount": 0,
        "payment_token": ZERO,
        "wallet": ZERO,
    }
    signature = {
        "nonce": 7,
        "expiry": int(time.time()) + expires_in,
        "v": 27,
        "r": 2**255 + 1,
        "s": 2**254 + 1,
    }
    return {"subscription": {**subscription, **more}, "signature": signature, "data": {"n": 1}}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(**more: Any) -> tuple[InfernetNode, httpx2.AsyncClient]:
            node = InfernetNode(**more)
            await node.start()
            stack.push_async_callback(node.stop)
            return node, await stack.enter_async_context(httpx2.AsyncClient(base_url=node.url, timeout=60))

        yield start


def get_error(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        (["echo"], "e6bc11afcedb3f26d7fb181f4c6dd2e98781d79f965a4777058412b58f788ec8"),
        (["echo", "prover"], "15e924e46aaddd159b12df8443995b13d97670052e94043deb00faf7fb90eb40"),
        (
            ["openai-client-inference-0.0.1"],
            "ca988b584c40f0247d10e2f6e76a151de1768920692ba7c729f388ab6f8f293d",
        ),
    ],
)
def test_hashes_of_containers_measured_on_nodes(containers: list[str], expected: str) -> None:
    assert make_containers_hash(containers).hex() == expected
    assert find_containers(bytes.fromhex(expected), ["prover", *containers[:1]]) == containers


def test_a_hash_of_something_else_is_not_found() -> None:
    assert find_containers(make_containers_hash(["b", "a"]), ["a", "b"]) == ["b", "a"]
    assert find_containers(make_containers_hash(["a", "c"]), ["a", "b"]) is None


async def test_without_a_chain_the_refusal_cannot_be_said(start: Start) -> None:
    node, http = await start()
    for path in ("/api/jobs", "/api/jobs/stream"):
        answer = await http.post(path, json=make_body())
        assert get_error(answer) == (500, f"Internal server error: {MESSAGE_TYPE}")
    assert node.journal == []


async def test_0_2_0_has_another_struct(start: Start) -> None:
    _, http = await start(version="0.2.0")
    assert get_error(await http.post("/api/jobs", json=make_body())) == (400, "Could not parse message")
    body = make_body(max_gas_price=1, max_gas_limit=1, container_id="echo", inputs="")
    assert get_error(await http.post("/api/jobs", json=body)) == (500, "Could not enqueue job")
    with pytest.raises(ValueError, match=r"0\.2\.0"):
        InfernetNode(version="0.2.0", chain=Side())


@pytest.mark.parametrize("prefix", ["", "0x"])
async def test_a_chain_node_answers_nothing_and_delivers(start: Start, prefix: str) -> None:
    side = Side()
    checked: ChainSide = side
    node, http = await start(chain=checked)
    body = make_body(prefix + make_containers_hash(["echo", "internal"]).hex())
    answer = await http.post("/api/jobs", json=body)
    assert (answer.status_code, answer.json()) == (200, {})
    await asyncio.wait_for(side.done.wait(), 60)
    assert side.seen == [(body["subscription"], body["signature"], {"n": 1})]
    assert side.outputs == [{"output": {"n": 1}}]
    assert [entry.job_id for entry in node.journal] == [f"{OWNER}/7"]
    assert (await http.get("/info")).json()["chain"] == {"address": side.address, "enabled": True}
    assert (await http.get("/api/jobs")).json() == []


async def test_what_fails_after_the_answer_is_only_logged(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    side = Side()
    _, http = await start(chain=side)
    with caplog.at_level(logging.ERROR):
        answer = await http.post("/api/jobs", json=make_body(make_containers_hash(["fail"]).hex()))
        assert (answer.status_code, answer.json()) == (200, {})
        await asyncio.wait_for(side.done.wait(), 60)
        await http.get("/health")
    assert "the container failed" in caplog.text
    assert (await http.get("/info")).json()["pending"] == {"offchain": 0, "onchain": 0}


@pytest.mark.parametrize(
    ("containers", "expires_in", "error"),
    [
        (make_containers_hash(["echo"]).hex(), -10, MESSAGE_TYPE),
        ("no-hash", 600, "Non-hexadecimal digit found"),
        (make_containers_hash(["unknown"]).hex(), 600, "list index out of range"),
    ],
)
async def test_errors_of_a_chain_node(start: Start, containers: str, expires_in: int, error: str) -> None:
    _, http = await start(chain=Side())
    body = make_body(containers, expires_in=expires_in)  # here, so that a long run of tests can't outlive it
    assert get_error(await http.post("/api/jobs", json=body)) == (500, f"Internal server error: {error}")
    answer = await http.post("/api/jobs/batch", json=[body])
    assert get_error(answer) == (500, f"Could not enqueue job:  {error}")


@pytest.mark.parametrize("change", [{"containers": ["echo"]}, {"lazy": 0}, {"period": "1"}, {"wallet": None}])
async def test_ill_typed_subscriptions(start: Start, change: dict[str, Any]) -> None:
    _, http = await start(chain=Side())
    status, error = get_error(await http.post("/api/jobs", json=make_body() | {"data": {}} | _change(change)))
    assert status == 500
    assert "can not match type" in error


def _change(change: dict[str, Any]) -> dict[str, Any]:
    return {"subscription": make_body()["subscription"] | change}


async def test_signatures_are_integers(start: Start) -> None:
    _, http = await start(chain=Side())
    body = make_body()
    body["signature"]["r"] = hex(body["signature"]["r"])
    assert "can not match type" in (await http.post("/api/jobs", json=body)).json()["error"]


async def test_refusals_of_a_chain_node(start: Start) -> None:
    known = make_containers()
    known.append(Container("private", "", run=known[1].run, allowed_delegate_addresses=["0x" + "1" * 40]))
    _, http = await start(chain=Side(), containers=known)

    async def post(*names: str, **more: Any) -> httpx2.Response:
        body = make_body(make_containers_hash(names).hex(), **more)
        return await http.post("/api/jobs", json=body)  # type: ignore[no-any-return]

    answer = await post("internal")
    assert get_error(answer) == (405, "First container must be external")
    answer = await post("echo", verifier=OWNER)
    assert get_error(answer) == (405, "Container does not generate proof")
    answer = await post("private", owner=OWNER.lower())
    assert get_error(answer) == (405, "Container not allowed for address")
    assert answer.json()["params"] == {"address": OWNER, "container": "private"}


async def test_streams_are_not_for_subscriptions(start: Start) -> None:
    _, http = await start(chain=Side())
    answer = await http.post("/api/jobs/stream", json=make_body())
    assert (answer.status_code, answer.json()) == (
        405,
        {"error": "Streaming only supported for OffchainJob requests."},
    )


async def test_batches_with_subscriptions(start: Start) -> None:
    _, http = await start(chain=Side())
    job = {"containers": ["echo"], "data": {}}
    answer = await http.post("/api/jobs/batch", json=[{**job, "id": "a"}, make_body(), {**job, "id": "b"}])
    assert answer.json() == [{"id": "a"}, {}, {"id": "b"}]


async def test_an_expired_one_spoils_the_batch_after_the_others_were_started(start: Start) -> None:
    node, http = await start(chain=Side())
    job = {"containers": ["echo"], "data": {}}
    items = [{**job, "id": "a"}, make_body(expires_in=-10), {**job, "id": "b"}]
    answer = await http.post("/api/jobs/batch", json=items)
    assert get_error(answer) == (500, f"Could not enqueue job:  {MESSAGE_TYPE}")
    assert [entry.job_id for entry in node.journal] == ["a", "b"]
    jobs = (await http.get("/api/jobs?id=a&id=b")).json()
    assert [job["id"] for job in jobs] == ["a", "b"]
