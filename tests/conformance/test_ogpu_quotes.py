"""What a task would cost: its payment, at least the source's minimum, and gas at the fees of the moment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from ogpu_setup import make_adapter, make_target, open_gateway, run_to_end

from gateway import Task
from gateway.devnet.ogpu import OgpuDevnet
from gateway.errors import InvalidInput
from gateway.lifecycle import Status
from gateway.types import Money
from gateway_ogpu import OgpuAdapter, OgpuClient
from gateway_ogpu.errors import PaymentTooLow

pytestmark = pytest.mark.anyio

HELLO = Task(model="m", input={"text": "hello"})


@pytest.fixture
async def adapter(ogpu: OgpuDevnet) -> AsyncIterator[OgpuAdapter]:
    adapter = make_adapter(ogpu)
    yield adapter
    await adapter.aclose()


async def fetch_minimum(ogpu: OgpuDevnet, adapter: OgpuAdapter) -> int:
    return (await OgpuClient.of(adapter).get_source(ogpu.first_response)).min_payment


async def test_a_quote_is_the_payment_and_gas(ogpu: OgpuDevnet, adapter: OgpuAdapter) -> None:
    quote = await adapter.quote(HELLO, make_target(ogpu, payment="0.02 OGPU"))
    payment = Money.parse("0.02 OGPU")
    assert quote.expected is not None
    assert quote.upper is not None
    assert quote.confidence == "range"
    assert payment < quote.expected < quote.upper
    gas = int(quote.detail["gas"])
    assert quote.upper.amount == payment.amount + gas * int(quote.detail["max_fee"])
    assert ogpu.counters.calls["eth_sendRawTransaction"] == 0
    assert await ogpu.tasks_on_chain() == []


async def test_whoever_confirms_pays_the_gas_of_that_too(ogpu: OgpuDevnet, adapter: OgpuAdapter) -> None:
    first = await adapter.quote(HELLO, make_target(ogpu))
    manual = await adapter.quote(HELLO, make_target(ogpu, source=ogpu.manual))
    assert int(manual.detail["gas"]) > int(first.detail["gas"]) + 50_000


async def test_cheapest_is_the_sources_minimum(ogpu: OgpuDevnet, adapter: OgpuAdapter) -> None:
    least, target = await fetch_minimum(ogpu, adapter), make_target(ogpu, payment="cheapest")
    assert least > 0
    quote = await adapter.quote(HELLO, target)
    assert int(quote.detail["payment"]) == least
    async with open_gateway(make_adapter(ogpu), target) as gateway:
        run = await run_to_end(gateway, HELLO)
    assert run.status is Status.COMPLETED, run
    [task] = await ogpu.tasks_on_chain()
    assert task.payment == least


async def test_what_is_quoted_bounds_what_is_paid(ogpu: OgpuDevnet) -> None:
    async with open_gateway(make_adapter(ogpu), make_target(ogpu, source=ogpu.manual)) as gateway:
        quote = (await gateway.quote(HELLO))["chain"]
        run = await run_to_end(gateway, HELLO)
    assert run.attempt is not None
    assert run.attempt.cost.settled is not None
    assert quote.upper is not None
    assert Money.parse("0.01 OGPU") < run.attempt.cost.settled <= quote.upper


async def test_what_would_be_refused_has_no_quote(ogpu: OgpuDevnet, adapter: OgpuAdapter) -> None:
    with pytest.raises(PaymentTooLow):
        await adapter.quote(HELLO, make_target(ogpu, payment="0.000001 OGPU"))
    with pytest.raises(InvalidInput):
        await adapter.quote(HELLO, make_target(ogpu, payment="1 USD"))
