"""RPCs that tell several states of a chain at once: none of that ends a run with what is not true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from ogpu_setup import NAME, make_adapter, make_target
from test_ogpu_scenarios import HELLO, follow, start, wait_for_task

from gateway.adapter import CancelOutcome, NotLanded
from gateway.chain.rpc import Reverted
from gateway.devnet.ogpu import Manner, OgpuDevnet
from gateway.errors import Unavailable
from gateway.lifecycle import Status
from gateway.task import FailureKind, Handle, Snapshot
from gateway.testing.case import make_attempt_id
from gateway_ogpu import OgpuAdapter, OgpuClient
from gateway_ogpu.contracts import get_selector
from gateway_ogpu.errors import SourceUnknown

pytestmark = pytest.mark.anyio

Rule = Callable[[str, Sequence[Any], Any], Any]


class Mixed:
    """An RPC whose answers may be of another state than was asked for, by rules.

    Attributes:
        rules: what makes of a method, its parameters and its answer another answer.
    """

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc
        self.rules: list[Rule] = []

    async def ask(self, questions: Sequence[Any]) -> list[Any]:
        answers = await self._rpc.ask(questions)
        for rule in self.rules:
            answers = [rule(*asked, told) for asked, told in zip(questions, answers, strict=True)]
        return list(answers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)


@pytest.fixture
async def adapter(ogpu: OgpuDevnet) -> AsyncIterator[OgpuAdapter]:
    for provider in ogpu.providers:
        provider.pause()
    adapter = make_adapter(ogpu)
    yield adapter
    await adapter.aclose()


@pytest.fixture
def mixed(adapter: OgpuAdapter) -> Mixed:
    mixed = Mixed(adapter.connection.rpc)
    adapter.connection._rpc = mixed  # type: ignore[assignment]
    return mixed


def hide(*methods: str) -> Rule:
    """Tell nothing of a transaction: a replica that is behind."""
    return lambda method, _, told: None if method in methods else told


def is_view(method: str, params: Sequence[Any], *functions: str) -> bool:
    """Say whether one of these functions is called."""
    return method == "eth_call" and any(
        params[0]["data"].startswith("0x" + get_selector(function).hex()) for function in functions
    )


def show_new(method: str, params: Sequence[Any], told: Any) -> Any:
    """Tell of a task that nobody has attempted yet."""
    is_old = is_view(method, params, "getStatus", "getAttemptCount", "winningProvider")
    return "0x" + "00" * 32 if is_old else told


async def look(adapter: OgpuAdapter, handle: Handle, times: int = 4) -> list[Snapshot | None]:
    """Poll a few times, about as often as the engine does."""
    seen = []
    for _ in range(times):
        seen.append((await adapter.poll([handle])).get(handle))
        await asyncio.sleep(0.3)
    return seen


async def test_a_replica_that_is_behind_does_not_make_a_publication_expired(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in a block, and paid for; a second one would be paid for too."""
    monkeypatch.setattr("gateway_ogpu.following._CHASE_SECONDS", 0.1)
    envelope = await adapter.prepare(HELLO, make_target(ogpu, expires_in="30s"), attempt_id=make_attempt_id())
    handle = await adapter.submit(envelope)
    prepared = envelope.payload["transaction"]
    await wait_for_task(ogpu)
    await ogpu.chain.advance(60)
    await asyncio.sleep(0.3)  # a head is believed for a moment

    def tell(method: str, params: Sequence[Any], told: Any) -> Any:
        if method == "eth_getTransactionCount" and params[1] in ("latest", "pending"):
            return hex(prepared["nonce"])
        return hide("eth_getTransactionReceipt", "eth_getTransactionByHash")(method, params, told)

    mixed.rules = [tell]
    assert await adapter.recover(envelope) == NotLanded(lingers=True)
    assert all(seen is not None and seen.status is Status.QUEUED for seen in await look(adapter, handle))
    mixed.rules.clear()
    ended = await follow(adapter, handle, {Status.FAILED})
    assert ended.failure is not None
    assert ended.failure.kind is FailureKind.EXPIRED
    assert "is still frozen" in ended.failure.message


async def expect_no_end_until_it_fits(adapter: OgpuAdapter, handle: Handle, mixed: Mixed) -> None:
    """Expect that a mixed view ends nothing, and that the answer is there once the view is whole."""
    assert not [seen for seen in await look(adapter, handle) if seen is not None and seen.status.is_final]
    mixed.rules.clear()
    assert (await follow(adapter, handle, {Status.COMPLETED, Status.FAILED})).output == {"text": "hello"}


@pytest.mark.parametrize("times", ["at once", "one after the other"])
async def test_views_from_before_a_block_do_not_end_what_it_answered(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed, times: str
) -> None:
    """Its events are told, and its views are still those of before: the clock alone says no more."""
    handle = await start(adapter, make_target(ogpu, expires_in="30s"))
    await follow(adapter, handle, {Status.QUEUED})
    await wait_for_task(ogpu)
    if times == "one after the other":
        assert (await look(adapter, handle))[-1] is not None
    mixed.rules = [show_new]
    ogpu.providers[0].resume()
    await wait_for_status(ogpu, "FINALIZED")
    await look(adapter, handle)
    await ogpu.chain.advance(60)
    await expect_no_end_until_it_fits(adapter, handle, mixed)


async def test_events_that_are_not_shown_yet_do_not_make_an_answer_late(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    ogpu.providers[0].manner = Manner.SILENT
    ogpu.providers[0].resume()
    handle = await start(adapter, make_target(ogpu, expires_in="30s"))
    await follow(adapter, handle, {Status.RUNNING})
    head = await fetch_height(ogpu)

    def tell(method: str, _: Sequence[Any], told: Any) -> Any:
        if method == "eth_getLogs":
            return [log for log in told if int(log["blockNumber"], 16) <= head]
        return told

    mixed.rules = [tell]
    ogpu.providers[1].resume()
    await wait_for_status(ogpu, "FINALIZED")
    await ogpu.chain.advance(60)
    await expect_no_end_until_it_fits(adapter, handle, mixed)


async def test_an_answer_that_is_blank_is_not_there_yet(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    blank = "0x" + (32).to_bytes(32, "big").hex() + "00" * 32 * 2 + f"{128:064x}" + "00" * 32 * 2

    def tell(method: str, params: Sequence[Any], told: Any) -> Any:
        return blank if is_view(method, params, "getResponseParams") else told

    ogpu.providers[0].resume()
    handle = await start(adapter, make_target(ogpu))
    await wait_for_status(ogpu, "FINALIZED")
    mixed.rules = [tell]
    await expect_no_end_until_it_fits(adapter, handle, mixed)


async def test_a_task_that_is_not_shown_yet_is_not_lost(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    handle = await start(adapter, make_target(ogpu))
    await wait_for_task(ogpu)
    [task] = await ogpu.tasks_on_chain()
    await asyncio.sleep(0.3)  # a head is believed for a moment
    foreign = [Handle(NAME, task.address, {}), Handle(NAME, handle.job_id, {})]
    mixed.rules = [lambda method, _, told: "0x" if method == "eth_call" else told]
    for one in foreign:
        assert not [seen for seen in await look(adapter, one) if seen is not None]
    mixed.rules.clear()
    for one in foreign:
        await follow(adapter, one, {Status.QUEUED})


async def test_a_receipt_without_its_events_loses_no_task(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    def tell(method: str, _: Sequence[Any], told: Any) -> Any:
        return {**told, "logs": []} if method == "eth_getTransactionReceipt" and told else told

    mixed.rules = [tell]
    handle = await start(adapter, make_target(ogpu))
    await wait_for_task(ogpu)
    assert not [seen for seen in await look(adapter, handle) if seen is not None and seen.status.is_final]
    mixed.rules.clear()
    assert "task" in (await follow(adapter, handle, {Status.QUEUED, Status.FAILED})).detail


async def test_a_bill_waits_for_the_receipts_that_belong_to_it(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    ogpu.providers[0].resume()
    handle = await start(adapter, make_target(ogpu, source=ogpu.manual, payment="0.1 OGPU"))
    seen = await follow(adapter, handle, {Status.UPLOADING})
    while not seen.answers:
        seen = await follow(adapter, handle, {Status.UPLOADING})
    envelope = await adapter.accept(handle, seen)
    await adapter.submit(envelope)
    confirmation = envelope.payload["transaction"]["hash"]
    mixed.rules = [lambda _, params, told: None if confirmation in params else told]
    assert not [seen for seen in await look(adapter, handle) if seen is not None and seen.status.is_final]
    mixed.rules.clear()
    ended = await follow(adapter, handle, {Status.COMPLETED})
    assert ended.cost is not None
    assert [one["transaction"] for one in ended.cost.evidence["closing"]] == [confirmation]


async def test_a_replica_that_is_behind_refuses_nothing(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    """It does not know the source yet, nor what was put into the vault."""

    def tell(method: str, params: Sequence[Any], told: Any) -> Any:
        is_behind = is_view(method, params, "getSourceId", "balanceOf") and params[1] == "latest"
        return "0x" + "00" * 32 if is_behind else told

    mixed.rules = [tell]
    handle = await start(adapter, make_target(ogpu))
    assert (await follow(adapter, handle, {Status.QUEUED})).failure is None
    with pytest.raises(SourceUnknown):
        await start(adapter, make_target(ogpu, source="0x" + "12" * 20))


async def test_a_revert_that_the_newest_block_does_not_know_refuses_nothing(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    behind = Reverted("execution reverted", b"")
    mixed.rules = [lambda method, _, told: behind if method == "eth_estimateGas" else told]
    with pytest.raises(Unavailable, match="not on the newest block"):
        await start(adapter, make_target(ogpu))
    mixed.rules.clear()
    await start(adapter, make_target(ogpu))


async def test_a_task_that_is_not_shown_is_not_too_late_to_be_cancelled(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    handle = await start(adapter, make_target(ogpu))
    await wait_for_task(ogpu)
    mixed.rules = [lambda *asked: "0x" if is_view(*asked[:2], "getStatus") else asked[2]]
    with pytest.raises(Unavailable, match="does not show the task"):
        await adapter.cancel(handle)
    mixed.rules.clear()
    assert await adapter.cancel(handle) is CancelOutcome.CANCELLED


async def test_watched_events_are_not_left_out_by_a_replica_that_is_behind(
    ogpu: OgpuDevnet, adapter: OgpuAdapter, mixed: Mixed
) -> None:
    def tell(method: str, params: Sequence[Any], told: Any) -> Any:
        behind = {"eth_getLogs": [], "eth_getBlockByNumber": told if params[0] == "latest" else None}
        return behind.get(method, told)

    await start(adapter, make_target(ogpu))
    await wait_for_task(ogpu)
    mixed.rules = [tell]
    events = OgpuClient.of(adapter).watch(["TaskPublished"], since=0, every=timedelta(seconds=0.2))
    coming = asyncio.ensure_future(anext(events))
    await asyncio.sleep(1)
    mixed.rules.clear()
    assert (await asyncio.wait_for(coming, 30)).name == "TaskPublished"


async def fetch_height(ogpu: OgpuDevnet) -> int:
    return int(str(await ogpu.chain.ask("eth_blockNumber")), 16)


async def wait_for_status(ogpu: OgpuDevnet, status: str) -> None:
    for _ in range(1200):
        if (await ogpu.tasks_on_chain())[-1:] and (await ogpu.tasks_on_chain())[-1].status == status:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no task came to be {status}")
