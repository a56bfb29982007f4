"""What a task on OGPU can meet: bids, unconfirmed answers, cancels, expiries; and many at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ogpu_setup import make_adapter, make_config, make_target, open_gateway, run_to_end, start_ogpu

from gateway import RunFailed, Task
from gateway.adapter import CancelOutcome
from gateway.devnet.ogpu import Manner, OgpuDevnet
from gateway.errors import BackendError, CostOutcome
from gateway.lifecycle import Status
from gateway.store.memory import MemoryStore
from gateway.task import FailureKind, Handle, Snapshot
from gateway.testing.case import make_attempt_id
from gateway.types import Money
from gateway_ogpu import OgpuAdapter, OgpuClient

pytestmark = pytest.mark.anyio

HELLO = Task(model="m", input={"text": "hello"})
TENTH = Money.parse("0.1 OGPU")


async def start(adapter: OgpuAdapter, target: dict[str, Any]) -> Handle:
    envelope = await adapter.prepare(HELLO, target, attempt_id=make_attempt_id())
    return await adapter.submit(envelope)


async def follow(adapter: OgpuAdapter, handle: Handle, wanted: set[Status]) -> Snapshot:
    for _ in range(1200):
        seen = (await adapter.poll([handle])).get(handle)
        if seen is not None and seen.status in wanted:
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"{handle.job_id} did not get to {wanted}: {seen}")


async def wait_for_task(ogpu: OgpuDevnet) -> None:
    for _ in range(1200):
        if await ogpu.tasks_on_chain():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("no task came to the chain")


async def test_the_cheapest_bid_is_confirmed(ogpu: OgpuDevnet) -> None:
    adapter = make_adapter(ogpu, collect_for="8s")
    target = make_target(ogpu, source=ogpu.manual, payment="0.1 OGPU")
    async with open_gateway(adapter, target) as gateway:
        run = await run_to_end(gateway, Task(model="m", input={"text": "hello"}, accept="cheapest"))
    [task] = await ogpu.tasks_on_chain()
    assert (run.status, run.output) == (Status.COMPLETED, {"text": "hello"}), run
    assert task.winner == ogpu.providers[2].account.address, "it asks for 60 %"
    assert run.attempt is not None
    assert run.attempt.cost.evidence["payment"] == "0.06 OGPU"
    assert run.attempt.cost.settled is not None
    assert Money.parse("0.06 OGPU") < run.attempt.cost.settled < Money.parse("0.07 OGPU")


async def test_a_tasks_responses_are_sliced_and_its_events_watched(ogpu: OgpuDevnet) -> None:
    target = make_target(ogpu, source=ogpu.manual, payment="0.1 OGPU")
    async with open_gateway(make_adapter(ogpu, collect_for="8s"), target) as gateway:
        await run_to_end(gateway, Task(model="m", input={"text": "hello"}, accept="cheapest"))
    [task] = await ogpu.tasks_on_chain()
    async with OgpuClient(make_config(ogpu)) as client:
        whole = await client.get_task_responses(task.address)
        assert len(whole) > 1
        assert await client.get_task_responses(task.address, 1) == whole[1:]
        assert await client.get_task_responses(task.address, 0, 1) == whole[:1]
        assert not await client.get_task_responses(task.address, len(whole), len(whole) + 9)
        told = []
        async for event in client.watch(["ResponseSubmitted"], since=0):
            told.append(event)
            if len(told) == len(whole):
                break
    assert {event.name for event in told} == {"ResponseSubmitted"}
    assert {str(event.arguments["response"]).lower() for event in told} == {r.address.lower() for r in whole}


async def test_the_first_valid_bid_is_confirmed(ogpu: OgpuDevnet) -> None:
    ogpu.providers[0].manner = Manner.MISSING
    ogpu.providers[1].manner = Manner.GARBAGE
    ogpu.providers[2].wait_seconds = 0.5
    async with open_gateway(make_adapter(ogpu), make_target(ogpu, source=ogpu.manual)) as gateway:
        run = await run_to_end(gateway, HELLO)
    [task] = await ogpu.tasks_on_chain()
    assert run.output == {"text": "hello"}
    assert task.winner == ogpu.providers[2].account.address


async def test_a_bid_is_chosen_by_hand(ogpu: OgpuDevnet) -> None:
    async with open_gateway(make_adapter(ogpu), make_target(ogpu, source=ogpu.manual)) as gateway:
        run = await gateway.submit(Task(model="m", input={"text": "hello"}, accept="hand"))
        while run.attempt is None or run.attempt.snapshot is None or len(run.attempt.snapshot.answers) < 3:
            await asyncio.sleep(0.1)
            run = await gateway.get(run.id)
        chosen = run.attempt.snapshot.answers[1]
        await gateway.accept(run.id, chosen.id)
        run = await gateway.wait(run.id, timeout=60)
    assert run.status is Status.COMPLETED
    assert run.attempt is not None
    assert run.attempt.snapshot is not None
    assert run.attempt.snapshot.detail["response"] == chosen.id


async def test_a_first_response_that_nobody_confirms_is_confirmed_by_us() -> None:
    async with start_ogpu(client_confirms=True) as ogpu:
        async with open_gateway(make_adapter(ogpu, confirm_after="2s"), make_target(ogpu)) as gateway:
            run = await run_to_end(gateway, HELLO)
        [task] = await ogpu.tasks_on_chain()
    assert (run.status, run.output) == (Status.COMPLETED, {"text": "hello"}), run
    assert task.status == "FINALIZED"


async def test_confirmed_already_is_success() -> None:
    async with start_ogpu(client_confirms=True) as ogpu:
        adapter = make_adapter(ogpu, confirm_after="1s")
        handle = await start(adapter, make_target(ogpu))
        seen = await follow(adapter, handle, {Status.UPLOADING})
        while not seen.answers:
            await asyncio.sleep(0.1)
            seen = (await adapter.poll([handle]))[handle]
        early = await adapter.accept(handle, seen)
        async with OgpuClient(make_config(ogpu)) as other:
            await other.confirm_response(seen.answers[0].id)
            assert await other.confirm_response(seen.answers[0].id) is None
        late = await adapter.accept(handle, seen)
        await adapter.submit(late)
        await adapter.submit(early)
        assert (await follow(adapter, handle, {Status.COMPLETED})).output == {"text": "hello"}
        await adapter.aclose()


async def test_a_new_task_is_cancelled_and_refunded(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.pause()
    adapter = make_adapter(ogpu)
    async with OgpuClient.of(adapter) as client:
        before = (await client.balances()).vault
        handle = await start(adapter, make_target(ogpu))
        assert await adapter.cancel(handle) is CancelOutcome.CANCELLED
        assert await adapter.cancel(handle) is CancelOutcome.TOO_LATE
        seen = await follow(adapter, handle, {Status.CANCELLED})
        assert seen.cost is not None
        assert seen.cost.outcome is CostOutcome.NOT_CHARGED
        assert (await client.balances()).vault == before


async def test_a_task_that_somebody_has_taken_is_not_cancelled(ogpu: OgpuDevnet) -> None:
    ogpu.providers[0].manner = Manner.SILENT
    adapter = make_adapter(ogpu)
    handle = await start(adapter, make_target(ogpu, source=ogpu.manual))
    await follow(adapter, handle, {Status.RUNNING, Status.UPLOADING})
    assert await adapter.cancel(handle) is CancelOutcome.TOO_LATE
    await adapter.aclose()


async def test_a_run_is_cancelled(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.pause()
    async with open_gateway(make_adapter(ogpu), make_target(ogpu)) as gateway:
        run = await gateway.submit(HELLO)
        await wait_for_task(ogpu)
        await gateway.cancel(run.id)
        with pytest.raises(RunFailed) as ended:
            await gateway.wait(run.id, timeout=60)
    assert ended.value.run.status is Status.CANCELLED
    assert [task.status for task in await ogpu.tasks_on_chain()] == ["CANCELED"]


async def test_an_expired_task_has_failed_although_the_chain_does_not_say_so(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.pause()
    adapter = make_adapter(ogpu)
    handle = await start(adapter, make_target(ogpu, expires_in="30s"))
    await follow(adapter, handle, {Status.QUEUED})
    await ogpu.chain.advance(60)
    seen = await follow(adapter, handle, {Status.FAILED})
    [task] = await ogpu.tasks_on_chain()
    assert task.status == "NEW"
    assert seen.failure is not None
    assert seen.failure.kind is FailureKind.EXPIRED
    assert "0.01 OGPU is still frozen" in seen.failure.message
    assert seen.cost is not None
    assert seen.cost.outcome is CostOutcome.UNKNOWN
    async with OgpuClient.of(adapter) as client:
        await client.cancel_task(task.address)
        assert (await client.get_task(task.address)).frozen == 0


async def test_a_task_that_was_marked_expired_is_refunded(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.pause()
    adapter = make_adapter(ogpu)
    handle = await start(adapter, make_target(ogpu, expires_in="30s"))
    await follow(adapter, handle, {Status.QUEUED})
    await ogpu.chain.advance(60)
    ogpu.providers[0].resume()
    for _ in range(1200):
        if (await ogpu.tasks_on_chain())[0].status == "EXPIRED":
            break
        await asyncio.sleep(0.05)
    seen = await follow(adapter, handle, {Status.FAILED})
    assert seen.cost is not None
    assert (seen.failure and seen.failure.kind, seen.cost.outcome) == (
        FailureKind.EXPIRED,
        CostOutcome.NOT_CHARGED,
    )
    await adapter.aclose()


@pytest.mark.parametrize(("manner", "code"), [(Manner.GARBAGE, "not_json"), (Manner.FOREIGN_URL, "no_cid")])
async def test_a_paid_answer_that_is_no_answer_says_that_it_was_paid(
    ogpu: OgpuDevnet, manner: Manner, code: str
) -> None:
    for provider in ogpu.providers:
        provider.manner = manner
    async with open_gateway(make_adapter(ogpu), make_target(ogpu)) as gateway:
        run = await run_to_end(gateway, HELLO)
    assert run.failure is not None
    assert (run.status, run.failure.kind, run.failure.code) == (
        Status.FAILED,
        FailureKind.OUTPUT_ERROR,
        code,
    )
    assert run.cost_outcome is CostOutcome.CHARGED


async def test_a_link_of_any_bytes_hides_no_other_task(
    ogpu: OgpuDevnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain takes any bytes for a string, and all tasks are looked at together."""
    pin, encode = ogpu.bots._pin, ogpu.bots._contracts.encode

    def pin_or_not(manner: Manner, output: bytes) -> str:
        return "ipfs://ZZZZ" if b"odd" in output else pin(manner, output)

    def encode_oddly(*words: Any) -> bytes:
        return encode(*words).replace(b"ZZZZ", b"\xff\xfe\xed\xa0")

    monkeypatch.setattr(ogpu.bots, "_pin", pin_or_not)
    monkeypatch.setattr(ogpu.bots._contracts, "encode", encode_oddly)
    adapter, handles = make_adapter(ogpu), []
    for text in ("odd", "hello"):
        task = Task(model="m", input={"text": text})
        envelope = await adapter.prepare(task, make_target(ogpu), attempt_id=make_attempt_id())
        handles.append(await adapter.submit(envelope))
    seen: dict[Handle, Snapshot] = {}
    while not all(handle in seen and seen[handle].status.is_final for handle in handles):
        seen = dict(await adapter.poll(handles))
        await asyncio.sleep(0.05)
    odd, right = (seen[handle] for handle in handles)
    assert right.output == {"text": "hello"}
    assert odd.failure is not None
    assert odd.cost is not None
    assert (odd.failure.code, odd.cost.outcome) == ("no_cid", CostOutcome.CHARGED)
    await adapter.aclose()


async def test_content_under_a_wrong_cid_is_never_an_output(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.manner = Manner.WRONG_CID
    async with open_gateway(make_adapter(ogpu, content_patience="3s"), make_target(ogpu)) as gateway:
        run = await run_to_end(gateway, HELLO)
    assert run.output is None
    assert run.failure is not None
    assert run.failure.kind is FailureKind.OUTPUT_ERROR
    assert "Content" in str(run.failure.code)
    assert run.cost_outcome is CostOutcome.CHARGED


async def test_a_link_to_a_dead_host_is_read_from_the_gateways(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.manner = Manner.UNPINNED_HOST
    async with open_gateway(make_adapter(ogpu), make_target(ogpu)) as gateway:
        assert (await run_to_end(gateway, HELLO)).output == {"text": "hello"}


async def test_an_agent_publishes_for_its_client(ogpu: OgpuDevnet) -> None:
    async with open_gateway(make_adapter(ogpu, ogpu.agent), make_target(ogpu)) as gateway:
        assert (await run_to_end(gateway, HELLO)).status is Status.COMPLETED


async def test_what_reverts_in_its_block_is_refused_and_costs_gas_alone(ogpu: OgpuDevnet) -> None:
    """The source is taken out of service between our check and our block; an agent has nonces of its own."""
    adapter = make_adapter(ogpu, ogpu.agent)
    envelope = await adapter.prepare(HELLO, make_target(ogpu), attempt_id=make_attempt_id())
    async with OgpuClient(make_config(ogpu)) as client:
        await client.inactivate_source(ogpu.first_response)
    handle = await adapter.submit(envelope)
    seen = await follow(adapter, handle, {Status.REJECTED, Status.FAILED, Status.COMPLETED})
    assert seen.status is Status.REJECTED
    assert seen.failure is not None
    assert seen.failure.code == "SourceInactive"
    assert seen.cost is not None
    assert seen.cost.outcome is CostOutcome.NOT_CHARGED
    assert seen.cost.evidence["gas_cost"].endswith("OGPU")
    await adapter.aclose()


async def test_twenty_tasks_take_two_blocks_and_fifteen_requests() -> None:
    async with start_ogpu(block_seconds=5) as ogpu:
        adapter = make_adapter(ogpu)
        ogpu.counters.reset()
        await adapter.capabilities()  # from a cold start
        ids = [make_attempt_id() for _ in range(20)]
        tasks = [Task(model="m", input={"text": str(number)}) for number in range(20)]
        target = make_target(ogpu, source=ogpu.manual)

        async def publish(task: Task, attempt_id: Any) -> Handle:
            return await adapter.submit(await adapter.prepare(task, target, attempt_id=attempt_id))

        handles = await asyncio.gather(*map(publish, tasks, ids))
        requests = ogpu.counters.http_requests
        for _ in range(600):
            if len(await ogpu.tasks_on_chain()) == 20:
                break
            await asyncio.sleep(0.1)
        receipts = [await ogpu.chain.ask("eth_getTransactionReceipt", h.job_id) for h in handles]
        blocks = {int(receipt["blockNumber"], 16) for receipt in receipts}
        await adapter.aclose()
    assert len(blocks) <= 2
    assert requests <= 15, ogpu.counters


async def test_many_waiting_tasks_cost_one_scan_per_block() -> None:
    async with start_ogpu() as ogpu:
        for provider in ogpu.providers:
            provider.pause()
        adapter = make_adapter(ogpu)
        handles = [await start(adapter, make_target(ogpu)) for _ in range(5)]
        for _ in range(600):
            seen = await adapter.poll(handles)
            if len(seen) == 5 and all("task" in snapshot.detail for snapshot in seen.values()):
                break
            await asyncio.sleep(0.1)
        await ogpu.chain.mine()
        await asyncio.sleep(1.1)  # the scan sees the publications themselves now
        await adapter.poll(handles)
        ogpu.counters.reset()
        for _ in range(4):
            await ogpu.chain.mine()
            await asyncio.sleep(0.3)  # a head is believed for a quarter of a second
            assert len(await adapter.poll(handles)) == 5
        calls = ogpu.counters.calls
        assert calls["eth_call"] == 0
        assert calls["eth_getLogs"] <= 5
        assert ogpu.counters.http_requests <= 10
        await adapter.aclose()


async def test_a_nonce_that_was_signed_and_never_sent_holds_nobody_up(
    ogpu: OgpuDevnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_ogpu.sending._GIVE_UP_SECONDS", 0.5)
    monkeypatch.setattr("gateway_ogpu.following._CHASE_SECONDS", 0.5)
    adapter = make_adapter(ogpu)
    target = make_target(ogpu)
    dropped = await adapter.prepare(HELLO, target, attempt_id=make_attempt_id())
    handle = await start(adapter, target)
    assert (await follow(adapter, handle, {Status.COMPLETED})).output == {"text": "hello"}
    with pytest.raises(BackendError):
        await adapter.submit(dropped)
    assert len(await ogpu.tasks_on_chain()) == 1
    await adapter.aclose()


async def test_two_gateways_of_one_store(ogpu: OgpuDevnet) -> None:
    """A job is followed by its stored handle alone, after its gateway has gone."""
    ogpu.providers[0].wait_seconds = ogpu.providers[1].wait_seconds = ogpu.providers[2].wait_seconds = 1.0
    store = MemoryStore()
    async with open_gateway(make_adapter(ogpu), make_target(ogpu), store) as gateway:
        run = await gateway.submit(HELLO)
        await wait_for_task(ogpu)
    async with open_gateway(make_adapter(ogpu), make_target(ogpu), store) as gateway:
        await gateway.recover()
        run = await gateway.wait(run.id, timeout=60)
    assert run.output == {"text": "hello"}
    assert len(await ogpu.tasks_on_chain()) == 1
