"""The OGPU adapter keeps the promises of the seam, on each EVM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from ogpu_setup import EVMS, NAME, make_adapter, start_ogpu

from gateway.devnet.chain.chain_faults import ChainFault
from gateway.devnet.ogpu import OgpuDevnet
from gateway.task import Handle, Task
from gateway.testing.case import ConformanceCase, Sample
from gateway.testing.conformance import AdapterConformance
from gateway_ogpu import OgpuAdapter


@pytest.fixture(params=EVMS)
async def ogpu(request: pytest.FixtureRequest) -> AsyncIterator[OgpuDevnet]:
    async with start_ogpu(request.param) as ogpu:
        yield ogpu


class TestOgpuAdapter(AdapterConformance):
    @pytest.fixture
    def case(self, ogpu: OgpuDevnet) -> ConformanceCase:
        def sample(function: str, data: dict[str, Any], **words: Any) -> Sample:
            target = {"source": ogpu.manual, "function": function, "payment": "0.01 OGPU", **words}
            return Sample(task=Task(input=data), target=target)

        async def accepted() -> int:
            await ogpu.chain.mine()
            return len(await ogpu.tasks_on_chain())

        return ConformanceCase(
            good=sample("echo", {"text": "hello"}),
            expected={"text": "hello"},
            bad_target={"source": "0x12", "function": "echo"},
            accepted=accepted,
            failing=sample("fail", {"text": "oh"}, expires_in="5s"),
            slow=sample("slow", {"seconds": 1.0}),
            unknown=Handle(NAME, "0x" + "12" * 20),
            go_down=ogpu.front.stop,
            come_back=lambda: ogpu.front.start(ogpu.chain.url),
            lose_answer=lambda: ogpu.faults.arm(ChainFault.ANSWER_LOST),
            make_adapter=lambda: make_adapter(ogpu),
            secrets=(ogpu.client.key, ogpu.client.key.removeprefix("0x")),
        )

    @pytest.fixture
    async def adapter(self, ogpu: OgpuDevnet) -> AsyncIterator[OgpuAdapter]:
        adapter = make_adapter(ogpu)
        yield adapter
        await adapter.aclose()
