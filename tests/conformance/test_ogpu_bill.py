"""What a task has cost is on its bill, gas included: the wallet and the vault agree with it."""

from __future__ import annotations

import asyncio
import json

import pytest
from ogpu_setup import make_adapter, make_target, open_gateway, run_to_end
from test_ogpu_scenarios import follow, start

from gateway import Run, Task
from gateway.adapter import CancelOutcome, Landed, NotLanded
from gateway.chain.fees import FeeTooHigh
from gateway.devnet.chain.chain_faults import ChainFault
from gateway.devnet.ogpu import OgpuDevnet
from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.testing.case import make_attempt_id
from gateway.types import Money
from gateway_ogpu import OgpuAdapter, OgpuClient

pytestmark = pytest.mark.anyio

HELLO = Task(model="m", input={"text": "hello"})


async def fetch_money(adapter: OgpuAdapter) -> int:
    async with OgpuClient.of(adapter) as client:
        found = await client.balances()
    return found.wallet + found.vault


async def pay_for(ogpu: OgpuDevnet, adapter: OgpuAdapter, source: str) -> tuple[Run, int]:
    """Run a task; return it, and what it took from our wallet and our vault."""
    before = await fetch_money(make_adapter(ogpu))
    async with open_gateway(adapter, make_target(ogpu, source=source, payment="0.1 OGPU")) as gateway:
        run = await run_to_end(gateway, HELLO)
    assert run.status is Status.COMPLETED, run
    return run, before - await fetch_money(make_adapter(ogpu))


async def test_a_confirmation_is_on_the_bill(ogpu: OgpuDevnet) -> None:
    run, paid = await pay_for(ogpu, make_adapter(ogpu), ogpu.manual)
    assert run.attempt is not None
    assert run.attempt.cost.settled is not None
    assert run.attempt.cost.settled.amount == paid
    [confirmation] = run.attempt.cost.evidence["closing"]
    assert confirmation["transaction"] != run.attempt.cost.evidence["publication"]["transaction"]


async def test_what_the_network_confirms_costs_us_no_gas(ogpu: OgpuDevnet) -> None:
    run, paid = await pay_for(ogpu, make_adapter(ogpu), ogpu.first_response)
    assert run.attempt is not None
    assert run.attempt.cost.settled is not None
    assert run.attempt.cost.settled.amount == paid
    assert "closing" not in run.attempt.cost.evidence


async def test_a_confirmation_is_on_the_bill_of_a_process_that_did_not_send_it(ogpu: OgpuDevnet) -> None:
    adapter, after = make_adapter(ogpu), make_adapter(ogpu)
    before = await fetch_money(make_adapter(ogpu))
    handle = await start(adapter, make_target(ogpu, source=ogpu.manual, payment="0.1 OGPU"))
    seen = await follow(adapter, handle, {Status.UPLOADING})
    await adapter.submit(await adapter.accept(handle, seen))
    await after.capabilities()
    ended = await follow(after, handle, {Status.COMPLETED})
    assert ended.cost is not None
    assert ended.cost.settled is not None
    assert ended.cost.settled.amount == before - await fetch_money(make_adapter(ogpu))
    await adapter.aclose()
    await after.aclose()


async def test_a_confirmation_that_came_too_late_is_on_the_bill(ogpu: OgpuDevnet) -> None:
    adapter = make_adapter(ogpu)
    before = await fetch_money(make_adapter(ogpu))
    handle = await start(adapter, make_target(ogpu, source=ogpu.manual, payment="0.1 OGPU"))
    seen = await follow(adapter, handle, {Status.UPLOADING})
    twice = [await adapter.accept(handle, seen) for _ in range(2)]
    for confirmation in twice:  # the second one reverts in its block
        await adapter.submit(confirmation)
    ended = await follow(adapter, handle, {Status.COMPLETED})
    assert ended.cost is not None
    assert ended.cost.settled is not None
    assert ended.cost.settled.amount == before - await fetch_money(make_adapter(ogpu))
    hashes = {one["transaction"] for one in ended.cost.evidence["closing"]}
    assert hashes == {one.payload["transaction"]["hash"] for one in twice}
    await adapter.aclose()


@pytest.mark.parametrize("when", ["before it has ended for it", "after that"])
async def test_a_late_confirmation_is_on_the_bill_of_a_process_that_looks_it_up(
    ogpu: OgpuDevnet, when: str
) -> None:
    """Its process died: another one has its stored envelope, and the receipt says the rest."""
    dead, after = make_adapter(ogpu), make_adapter(ogpu)
    before = await fetch_money(make_adapter(ogpu))
    handle = await start(dead, make_target(ogpu, source=ogpu.manual, payment="0.1 OGPU"))
    seen = await follow(dead, handle, {Status.UPLOADING})
    twice = [await dead.accept(handle, seen) for _ in range(2)]
    for confirmation in twice:  # the second one reverts in its block
        await dead.submit(confirmation)
    await dead.aclose()
    await after.capabilities()
    if when == "after that":
        await follow(after, handle, {Status.COMPLETED})
    for _ in range(2):  # once is on the bill, however often it is looked up
        assert isinstance(await after.recover(twice[1]), Landed)
    ended = await follow(after, handle, {Status.COMPLETED})
    assert ended.cost is not None
    assert ended.cost.settled is not None
    assert ended.cost.settled.amount == before - await fetch_money(make_adapter(ogpu))
    hashes = [one["transaction"] for one in ended.cost.evidence["closing"]]
    assert sorted(hashes) == sorted(one.payload["transaction"]["hash"] for one in twice)
    await after.aclose()


async def test_a_cancelled_task_has_cost_its_gas_alone(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.pause()
    adapter = make_adapter(ogpu)
    before = await fetch_money(make_adapter(ogpu))
    handle = await start(adapter, make_target(ogpu))
    await follow(adapter, handle, {Status.QUEUED})
    await adapter.cancel(handle)
    seen = await follow(adapter, handle, {Status.CANCELLED})
    assert seen.cost is not None
    assert seen.cost.settled is not None
    assert seen.cost.outcome is CostOutcome.NOT_CHARGED
    assert seen.cost.settled.amount == before - await fetch_money(make_adapter(ogpu)) > 0
    assert len(seen.cost.evidence["closing"]) == 1
    await adapter.aclose()


async def test_two_wishes_to_cancel_are_one_transaction(ogpu: OgpuDevnet) -> None:
    for provider in ogpu.providers:
        provider.pause()
    adapter = make_adapter(ogpu)
    handle = await start(adapter, make_target(ogpu))
    await follow(adapter, handle, {Status.QUEUED})
    before = await fetch_money(make_adapter(ogpu))
    told = await asyncio.gather(*(adapter.cancel(handle) for _ in range(3)))
    assert told[0] is CancelOutcome.CANCELLED
    seen = await follow(adapter, handle, {Status.CANCELLED})
    assert seen.cost is not None
    [cancellation] = seen.cost.evidence["closing"]
    payment, gas = Money.parse("0.01 OGPU"), Money.parse(cancellation["gas_cost"])
    assert await fetch_money(make_adapter(ogpu)) == before + payment.amount - gas.amount
    await adapter.aclose()


@pytest.mark.parametrize("how", ["followed", "looked up"])
async def test_what_expired_unpublished_is_not_published_later(ogpu: OgpuDevnet, how: str) -> None:
    """The next task waits behind its nonce, which something must use up."""
    adapter, target = make_adapter(ogpu), make_target(ogpu)
    ogpu.faults.arm(ChainFault.DROPPED)
    envelope = await adapter.prepare(HELLO, {**target, "expires_in": "2s"}, attempt_id=make_attempt_id())
    handle = await adapter.submit(envelope)
    if how == "followed":
        seen = await follow(adapter, handle, {Status.FAILED})
        assert seen.cost is not None
        assert seen.cost.outcome is CostOutcome.NOT_CHARGED
    else:
        for _ in range(300):
            if (await adapter.recover(envelope)) == NotLanded(final=True):
                break
            await asyncio.sleep(0.1)
    await follow(adapter, await start(adapter, target), {Status.COMPLETED})
    assert await ogpu.chain.ask("eth_getTransactionReceipt", handle.job_id) is None
    assert await adapter.recover(envelope) == NotLanded(final=True)
    await adapter.aclose()


async def test_a_keystore_signs(ogpu: OgpuDevnet) -> None:
    from eth_account import Account

    keystore = Account.encrypt(bytes.fromhex(ogpu.client.key[2:]), "open sesame", kdf="pbkdf2", iterations=10)
    words = {"keystore": json.dumps(keystore), "keystore_password": "open sesame"}
    adapter = make_adapter(ogpu, private_key=None, **words)
    assert (await adapter.capabilities()).detail["account"] == ogpu.client.address
    run, _ = await pay_for(ogpu, adapter, ogpu.manual)
    assert run.attempt is not None
    assert run.attempt.handle is not None
    assert run.attempt.handle.detail["transaction"]["from"] == ogpu.client.address
    assert "sesame" not in repr(adapter.config)

    wrong = make_adapter(ogpu, private_key=None, **(words | {"keystore_password": "shut"}))
    facts = await wrong.capabilities()
    assert not facts.healthy
    assert "keystore" in (facts.reason or "")
    await wrong.aclose()


async def test_no_more_is_offered_than_max_fee(ogpu: OgpuDevnet) -> None:
    free = make_adapter(ogpu)
    envelope = await free.prepare(HELLO, make_target(ogpu), attempt_id=make_attempt_id())
    usual = int(envelope.payload["transaction"]["max_fee"])
    assert usual > 2
    await free.aclose()

    capped = make_adapter(ogpu, max_fee=f"{(usual - 1) / 10**18:.18f} OGPU")
    envelope = await capped.prepare(HELLO, make_target(ogpu), attempt_id=make_attempt_id())
    assert int(envelope.payload["transaction"]["max_fee"]) == usual - 1
    await capped.submit(envelope)
    await capped.aclose()

    for words in ({"max_fee": "0.000000000000000001 OGPU"}, {"max_gas_cost": "0.000000000000000001 OGPU"}):
        stingy = make_adapter(ogpu, **words)
        sent = ogpu.counters.calls["eth_sendRawTransaction"]
        with pytest.raises(FeeTooHigh):
            await stingy.prepare(HELLO, make_target(ogpu), attempt_id=make_attempt_id())
        assert ogpu.counters.calls["eth_sendRawTransaction"] == sent
        await stingy.aclose()
