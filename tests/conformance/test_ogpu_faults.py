"""Whatever goes wrong on the way, a run has one task on the chain and one right answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from ogpu_setup import EVMS, make_adapter, make_target, open_gateway, run_to_end, start_ogpu

from gateway import Task
from gateway.devnet.chain.chain_faults import ChainFault
from gateway.devnet.ogpu import ContentFault, OgpuDevnet
from gateway.errors import CostOutcome
from gateway.lifecycle import Status

pytestmark = pytest.mark.anyio

CHAIN_FAULTS: list[tuple[ChainFault, dict[str, Any]]] = [
    (ChainFault.ANSWER_LOST, {}),
    (ChainFault.ANSWER_LOST, {"times": 3}),
    (ChainFault.ALREADY_KNOWN, {}),
    (ChainFault.KNOWN_AND_DROPPED, {}),
    (ChainFault.DROPPED, {}),
    (ChainFault.NONCE_TOO_LOW, {}),
    (ChainFault.STALE_NONCE, {"times": 3}),
    (ChainFault.RECEIPT_MISSING, {"times": 5}),
    (ChainFault.BLOCK_NOT_FOUND, {"times": 3}),
    (ChainFault.BLOCK_NOT_FOUND, {"on": "eth_estimateGas", "times": 1}),
    (ChainFault.NO_BATCH, {"on": "batch", "times": None}),
    (ChainFault.LEGACY_ONLY, {"times": None}),
    (ChainFault.REFUSE_TIPS, {}),
    (ChainFault.REFUSE_TIPS, {"times": None}),
    (ChainFault.REORG, {}),
    (ChainFault.REFUSE, {"on": "eth_sendRawTransaction"}),
    (ChainFault.SERVER_ERROR, {"on": "eth_sendRawTransaction"}),
    (ChainFault.ERROR_AFTER, {"on": "eth_sendRawTransaction"}),
    (ChainFault.GARBAGE, {"on": "eth_sendRawTransaction"}),
    (ChainFault.ERROR_OBJECT, {"on": "eth_sendRawTransaction"}),
    (ChainFault.RATE_LIMIT, {"on": "eth_sendRawTransaction"}),
    (ChainFault.HANG, {"on": "eth_sendRawTransaction"}),
    (ChainFault.HANG, {"on": "eth_getTransactionReceipt"}),
    (ChainFault.SERVER_ERROR, {"on": "eth_getTransactionReceipt", "times": 2}),
]
CONTENT_FAULTS: list[tuple[ContentFault, dict[str, Any]]] = [
    (ContentFault.DOWN, {"on": "pin"}),
    (ContentFault.REFUSE, {"on": "pin"}),
    (ContentFault.ANSWER_LOST, {}),
    (ContentFault.FOREIGN_LINK, {}),
    (ContentFault.RATE_LIMIT, {"on": "read"}),
    (ContentFault.TAMPER, {"times": 2}),
    (ContentFault.TRUNCATE, {"times": 2}),
    (ContentFault.SWAP, {"times": 2}),
    (ContentFault.MISSING, {"times": 2}),
]


def name(case: tuple[Any, dict[str, Any]]) -> str:
    return "-".join([case[0].value, *(str(word) for word in case[1].values())])


@pytest.fixture(params=EVMS)
async def ogpu(request: pytest.FixtureRequest) -> AsyncIterator[OgpuDevnet]:
    async with start_ogpu(request.param) as ogpu:
        yield ogpu


async def expect_one_task(ogpu: OgpuDevnet, **words: Any) -> None:
    adapter = make_adapter(ogpu, rpc_timeout_seconds=3.0, **words)
    async with open_gateway(adapter, make_target(ogpu)) as gateway:
        run = await run_to_end(gateway, Task(model="m", input={"text": "hello"}))
    tasks = await ogpu.tasks_on_chain()
    assert (run.status, run.output) == (Status.COMPLETED, {"text": "hello"}), run
    assert len(tasks) == 1, f"{len(tasks)} tasks are on the chain"
    assert run.cost_outcome is CostOutcome.CHARGED
    assert run.attempt is not None
    assert run.attempt.cost.evidence["task"] == tasks[0].address


@pytest.mark.parametrize("case", CHAIN_FAULTS, ids=name)
async def test_a_faulty_rpc_makes_no_second_task(
    ogpu: OgpuDevnet, case: tuple[ChainFault, dict[str, Any]]
) -> None:
    ogpu.faults.arm(case[0], **case[1])
    await expect_one_task(ogpu)


@pytest.mark.parametrize("case", CONTENT_FAULTS, ids=name)
async def test_faulty_content_makes_no_second_task(
    ogpu: OgpuDevnet, case: tuple[ContentFault, dict[str, Any]]
) -> None:
    ogpu.content.faults.arm(case[0], **case[1])
    await expect_one_task(ogpu)


async def test_an_rpc_that_is_down_is_passed_over(ogpu: OgpuDevnet) -> None:
    await expect_one_task(ogpu, rpc_url=["http://127.0.0.1:9", ogpu.rpc_url])


async def test_a_key_that_others_use_too_is_signed_anew(ogpu: OgpuDevnet) -> None:
    """Between our signature and our broadcast somebody else takes the nonce: ours is dead, provably."""
    adapter = make_adapter(ogpu)
    submit = adapter.submit

    async def submit_late(envelope: Any) -> Any:
        adapter.submit = submit  # type: ignore[method-assign]
        await ogpu.say(ogpu_wallet(ogpu), "Vault", ogpu.contracts.vault, "lock", 1)
        return await submit(envelope)

    adapter.submit = submit_late  # type: ignore[method-assign]
    async with open_gateway(adapter, make_target(ogpu)) as gateway:
        run = await run_to_end(gateway, Task(model="m", input={"text": "hello"}))
    assert run.status is Status.COMPLETED, run
    assert len(run.attempts) == 2
    assert len(await ogpu.tasks_on_chain()) == 1


def ogpu_wallet(ogpu: OgpuDevnet) -> Any:
    from gateway.devnet.chain.wallet import Wallet

    return Wallet(ogpu.chain.web3, ogpu.client)
