"""What OGPU refuses is refused before anything is sent or uploaded, by its own error; keys leave no trace."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from ogpu_setup import NAME, make_adapter, make_config, make_target, open_gateway, run_to_end

from gateway import Limits, Task
from gateway.chain.endpoint import WrongChain
from gateway.chain.refusals import InsufficientFunds
from gateway.devnet.ogpu import OgpuDevnet
from gateway.errors import BackendError, CostOutcome, InvalidInput, Rejected
from gateway.lifecycle import Status
from gateway.store.sqlite import SqliteStore
from gateway.testing.case import make_attempt_id
from gateway.types import Money
from gateway_ogpu import OgpuAdapter, OgpuClient
from gateway_ogpu.errors import (
    ExpiryRefused,
    NotAllowed,
    PaymentTooLow,
    SourceInactive,
    SourceUnknown,
    VaultTooLow,
)

pytestmark = pytest.mark.anyio

HELLO = Task(model="m", input={"text": "hello"})
TENTH = Money.parse("0.1 OGPU")


async def expect_refusal(
    ogpu: OgpuDevnet, kind: type[BackendError], adapter: OgpuAdapter | None = None, **words: Any
) -> None:
    adapter = adapter or make_adapter(ogpu)
    task = words.pop("task", HELLO)
    with pytest.raises(kind) as caught:
        await adapter.prepare(task, make_target(ogpu, **words), attempt_id=make_attempt_id())
    assert caught.value.backend == NAME
    assert caught.value.cost_outcome is CostOutcome.NOT_CHARGED
    assert ogpu.counters.calls["eth_sendRawTransaction"] == 0
    assert not ogpu.content.journal
    await adapter.aclose()


async def test_an_unknown_source(ogpu: OgpuDevnet) -> None:
    await expect_refusal(ogpu, SourceUnknown, source="0x" + "12" * 20)


async def test_an_inactive_source(ogpu: OgpuDevnet) -> None:
    async with OgpuClient(make_config(ogpu, rpc_url=ogpu.chain.url)) as client:
        await client.inactivate_source(ogpu.first_response)
    await expect_refusal(ogpu, SourceInactive)


async def test_somebody_elses_source(ogpu: OgpuDevnet) -> None:
    await expect_refusal(ogpu, NotAllowed, make_adapter(ogpu, ogpu.stranger))


async def test_a_payment_below_the_minimum(ogpu: OgpuDevnet) -> None:
    await expect_refusal(ogpu, PaymentTooLow, payment="0.0001 OGPU")


async def test_more_than_the_vault_has(ogpu: OgpuDevnet) -> None:
    await expect_refusal(ogpu, VaultTooLow, payment="5000 OGPU")


async def test_longer_than_the_source_allows(ogpu: OgpuDevnet) -> None:
    await expect_refusal(ogpu, ExpiryRefused, expires_in="2d")


async def test_a_deadline_that_leaves_no_time(ogpu: OgpuDevnet) -> None:
    from datetime import timedelta

    task = Task(model="m", input={}, limits=Limits(deadline=timedelta(milliseconds=10)))
    await expect_refusal(ogpu, ExpiryRefused, task=task)


async def test_a_wrong_chain_behind_the_url(ogpu: OgpuDevnet) -> None:
    adapter = make_adapter(ogpu, chain_id=1)
    assert not (await adapter.capabilities()).healthy
    await expect_refusal(ogpu, WrongChain, adapter)


async def test_a_key_without_funds(ogpu: OgpuDevnet) -> None:
    from eth_account import Account

    poor = Account.create()
    async with OgpuClient(make_config(ogpu, rpc_url=ogpu.chain.url)) as client:
        await client.set_agent(poor.address)
    config = make_config(ogpu, private_key=None)
    adapter = OgpuAdapter(NAME, config, signer=poor)
    with pytest.raises(InsufficientFunds):
        await adapter.prepare(HELLO, make_target(ogpu), attempt_id=make_attempt_id())
    assert ogpu.counters.calls["eth_sendRawTransaction"] == 0
    await adapter.aclose()


async def test_no_key(ogpu: OgpuDevnet) -> None:
    adapter = make_adapter(ogpu, private_key=None)
    found = await adapter.capabilities()
    assert not found.healthy
    assert "private_key" in str(found.reason)
    await expect_refusal(ogpu, Rejected, adapter)


async def test_input_that_is_no_object(ogpu: OgpuDevnet) -> None:
    adapter = make_adapter(ogpu)
    with pytest.raises(InvalidInput):
        await adapter.prepare(Task(input="text"), make_target(ogpu), attempt_id=make_attempt_id())
    await adapter.aclose()


async def test_a_key_leaves_no_trace(
    ogpu: OgpuDevnet, tmp_path: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    key = ogpu.client.key.removeprefix("0x")
    adapter = make_adapter(ogpu)
    path = tmp_path / "runs.db"
    told = [repr(adapter), repr(adapter.config), str(adapter.config), repr(adapter.connection.__dict__)]
    async with open_gateway(adapter, make_target(ogpu, source=ogpu.manual), SqliteStore(path)) as gateway:
        run = await run_to_end(gateway, HELLO)
        told += [run.model_dump_json().decode(), repr(run), repr(adapter.connection.signer)]
    for words in ({"source": ogpu.first_response, "payment": "5000 OGPU"}, {"source": "0x" + "12" * 20}):
        with pytest.raises(BackendError) as caught:
            await adapter.prepare(HELLO, make_target(ogpu, **words), attempt_id=make_attempt_id())
        told += [str(caught.value), repr(caught.value), repr(caught.value.__dict__)]
    with pytest.raises(ValueError, match="private_key") as wrong:
        make_config(ogpu, keystore="{}", keystore_password="x")
    told += [str(wrong.value), repr(wrong.value)]
    told += [record.getMessage() for record in caplog.records]
    told += list(capsys.readouterr())
    await adapter.aclose()
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("runs.db*"))
    assert run.status is Status.COMPLETED
    assert stored
    assert key.encode() not in stored.lower()
    assert bytes.fromhex(key) not in stored
    assert not [text for text in told if key in text.lower()]
