"""Delegated subscriptions where no RPC is configured: checked, posted, and never a silent success."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx  # respx's name for what is httpx2 here: see conftest.py
import pytest
import respx

from gateway.adapter import Unknown
from gateway.errors import BackendError, InDoubt, InvalidInput, Misbehaved, Rejected, Unavailable
from gateway.lifecycle import Status
from gateway.task import Envelope, FailureKind, Handle, Snapshot, Task
from gateway.testing.clock import FakeClock
from gateway.types import AttemptId, Money
from gateway_infernet import InfernetAdapter, InfernetConfig
from gateway_infernet.delegated import Delegation, encode_container_id, make_nonce, recover_signer

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:4000"
# A key out of anvil's documentation.
KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
SIGNER = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
COORDINATOR = "0x2E983A1Ba5e8b38AAAeC4B440B9dDcFBf72E15d1"
OWNER = "0xbdEd0D2bf404bdcBa897a74E6657f1f12e5C6fb6"
TOKEN = "0x" + "1" * 40
CHAIN = {"coordinator": COORDINATOR, "chain_id": 31337, "private_key": KEY}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def node() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        say_info(router)
        yield router


@pytest.fixture
async def adapter(node: respx.MockRouter, clock: FakeClock) -> AsyncIterator[InfernetAdapter]:
    adapter = make(clock)
    yield adapter
    await adapter.aclose()


def make(clock: FakeClock, **config: Any) -> InfernetAdapter:
    settings = {"url": URL, "version": "1.4.0", "chain": CHAIN, **config}
    return InfernetAdapter("n", InfernetConfig.model_validate(settings), clock=clock)


def say_info(node: respx.MockRouter, *, enabled: bool = True) -> None:
    chain = {"enabled": enabled, "address": ""}
    node.get("/info").respond(json={"version": "1.4.0", "containers": [], "chain": chain})


async def prepare(
    adapter: InfernetAdapter, *, stream: bool = False, data: Any = None, **words: Any
) -> Envelope:
    target = {"containers": ["echo", "prover"], "delegated": {"owner": OWNER, **words}}
    task = Task(input={"text": "x"} if data is None else data, stream=stream)
    return await adapter.prepare(task, target, attempt_id=AttemptId("a"))


async def look(adapter: InfernetAdapter, handle: Handle) -> Snapshot:
    return (await adapter.poll([handle]))[handle]


async def test_it_is_signed_for_the_configured_coordinator(
    adapter: InfernetAdapter, clock: FakeClock
) -> None:
    envelope = await prepare(adapter, period=60, frequency=3, redundancy=2)
    delegation = Delegation.parse(envelope.payload["delegation"])
    signature, now = delegation.signature, int(clock.now().timestamp())
    assert recover_signer(delegation.subscription, signature, 31337, COORDINATOR) == SIGNER
    assert (signature.nonce, signature.expiry) == (make_nonce("a"), now + 120)
    assert delegation.subscription.active_at == now
    assert KEY[2:] not in envelope.model_dump_json().decode()


async def test_what_is_posted(adapter: InfernetAdapter, node: respx.MockRouter) -> None:
    route = node.post("/api/jobs").respond(json={})
    handle = await adapter.submit(await prepare(adapter, nonce=7))
    body = json.loads(route.calls.last.request.content)
    assert set(body) == {"subscription", "signature", "data"}
    assert body["subscription"]["containers"] == encode_container_id(["echo", "prover"])
    assert body["signature"]["nonce"] == 7
    assert body["data"] == {"text": "x"}
    assert handle.job_id.endswith(f"{OWNER.lower()}:7")


async def test_without_an_rpc_there_is_no_success(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock
) -> None:
    node.post("/api/jobs").respond(json={})
    envelope = await prepare(adapter, expires_in_seconds=60)
    handle = Handle.model_validate_json((await adapter.submit(envelope)).model_dump_json())
    clock.advance(59)
    running = await look(adapter, handle)
    assert running.status is Status.RUNNING
    assert "chain.rpc_url" in str(running.message)
    clock.advance(1)
    ended = await look(adapter, handle)
    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert ended.failure.kind is FailureKind.UNRESOLVED
    assert "chain.rpc_url" in ended.failure.message
    assert isinstance(await adapter.recover(envelope), Unknown)


async def test_jobs_and_subscriptions_are_looked_at_together(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    node.post("/api/jobs").respond(json={})
    route = node.get("/api/jobs").respond(json=[{"id": "j", "result": None, "status": "running"}])
    delegated = await adapter.submit(await prepare(adapter))
    job = Handle("n", "j", {"kind": "job"})
    assert set(await adapter.poll([job, delegated])) == {job, delegated}
    assert route.calls.last.request.url.query == b"id=j"
    # What the one side can't say hides nothing of the other.
    route.mock(side_effect=httpx.ConnectError("gone"))
    assert set(await adapter.poll([job, delegated])) == {delegated}
    with pytest.raises(Unavailable):
        await adapter.poll([job])


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((500, {"error": "Internal server error: list index out of range"}), Rejected, "echo, prover"),
        (
            (500, {"error": "Internal server error: Object of type MessageType is not JSON serializable"}),
            Rejected,
            "disabled, or the signature expired",
        ),
        ((405, {"error": "First container must be external", "params": {}}), Rejected, "external"),
        ((500, {"error": "Internal server error: no idea"}), InDoubt, "no idea"),
        ((200, []), Misbehaved, "answered with"),
    ],
)
async def test_refusals(
    adapter: InfernetAdapter, node: respx.MockRouter, answer: Any, error: type[BackendError], words: str
) -> None:
    status, said = answer
    node.post("/api/jobs").respond(status, json=said)
    with pytest.raises(error, match=words) as caught:
        await adapter.submit(await prepare(adapter))
    assert type(caught.value) is error
    assert caught.value.backend == "n"


async def test_an_expired_envelope_is_not_sent(
    adapter: InfernetAdapter, node: respx.MockRouter, clock: FakeClock
) -> None:
    route = node.post("/api/jobs").respond(json={})
    envelope = await prepare(adapter)
    clock.advance(121)
    with pytest.raises(Rejected, match="expired"):
        await adapter.submit(envelope)
    assert route.call_count == 0


async def test_a_node_without_a_chain_is_asked_first(
    adapter: InfernetAdapter, node: respx.MockRouter
) -> None:
    say_info(node, enabled=False)
    with pytest.raises(Rejected, match="chain is disabled"):
        await prepare(adapter)
    node.get("/info").respond(500, html="<p>")
    with pytest.raises(Unavailable):
        await prepare(adapter)
    node.get("/info").respond(200, html="<p>")
    with pytest.raises(Unavailable):
        await prepare(adapter)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"chain": None}, r"\[backends\.n\.chain\]"),
        ({"version": "0.2.0"}, r"before 1\.0"),
        ({"chain": {**CHAIN, "private_key": "0x1234"}}, "not a private key"),
    ],
)
async def test_what_the_configuration_does_not_allow(
    node: respx.MockRouter, clock: FakeClock, config: Any, words: str
) -> None:
    adapter = make(clock, **config)
    with pytest.raises(Rejected, match=words) as caught:
        await prepare(adapter)
    assert "1234" not in str(caught.value)
    await adapter.aclose()


async def test_what_cannot_work_is_refused_before(adapter: InfernetAdapter) -> None:
    with pytest.raises(Rejected, match="streamed"):
        await prepare(adapter, stream=True)
    with pytest.raises(InvalidInput, match="JSON object"):
        await prepare(adapter, data=[1])
    with pytest.raises(InvalidInput, match="nonce"):
        await prepare(adapter, nonce=2**32)
    with pytest.raises(Rejected, match="one interval only"):
        await prepare(adapter, frequency=2)
    with pytest.raises(Rejected, match="active"):
        await prepare(adapter, active_at=2**32 - 2)


@pytest.mark.parametrize(
    ("words", "config", "price", "confidence"),
    [
        ({}, CHAIN, None, "free"),
        ({"payment_amount": 5}, CHAIN, Money(30, "ETH"), "range"),
        ({"payment_amount": 5, "payment_token": TOKEN}, CHAIN, Money(30, f"erc20:31337:{TOKEN}"), "range"),
        ({"payment_amount": 5, "payment_token": TOKEN}, None, None, "unknown"),
    ],
)
async def test_quotes(
    clock: FakeClock, words: Any, config: Any, price: Money | None, confidence: str
) -> None:
    adapter = make(clock, chain=config)
    more = {"period": 60, "frequency": 3, "redundancy": 2}
    target = {"containers": ["echo"], "delegated": {"owner": OWNER, **more, **words}}
    quote = await adapter.quote(Task(input={}), target)
    assert (quote.expected, quote.upper, quote.confidence) == (price, price, confidence)
