"""The Infernet adapter keeps the promises of the seam, against each version of a node."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.devnet.faults import Fault, Operation
from gateway.devnet.infernet import InfernetNode
from gateway.task import Handle, Task
from gateway.testing.case import ConformanceCase, Sample
from gateway.testing.conformance import AdapterConformance
from gateway_infernet import InfernetAdapter, InfernetConfig

NAME = "node1"


@pytest.fixture(params=["1.4.0", "1.3.1", "1.0.0", "0.2.0"])
async def node(request: pytest.FixtureRequest) -> AsyncIterator[InfernetNode]:
    node = InfernetNode(NAME, version=request.param, rate_limit=(1000, 1.0))
    await node.start()
    yield node
    await node.stop()


class TestInfernetAdapter(AdapterConformance):
    @pytest.fixture
    def case(self, node: InfernetNode) -> ConformanceCase:
        def echo(text: str, container: str = "echo") -> Sample:
            return Sample(task=Task(input={"text": text}), target={"containers": [container]})

        return ConformanceCase(
            good=echo("hello"),
            expected={"text": "hello"},
            bad_target={"containers": []},
            accepted=lambda: len(node.journal),
            failing=echo("oh", "fail"),
            slow=Sample(task=Task(input={"seconds": 0.3}), target={"containers": ["sleep"]}),
            refused=echo("?", "no-such-container"),
            unknown=Handle(NAME, "3e1d4e0c-1111-2222-3333-444455556666"),
            go_down=node.stop,
            come_back=node.start,
            lose_answer=lambda: node.faults.arm(Fault.ANSWER_LOST, on=Operation.SUBMIT),
            make_adapter=lambda: make_adapter(node),
        )

    @pytest.fixture
    async def adapter(self, node: InfernetNode) -> AsyncIterator[InfernetAdapter]:
        adapter = make_adapter(node)
        yield adapter
        await adapter.aclose()


def make_adapter(node: InfernetNode) -> InfernetAdapter:
    return InfernetAdapter(NAME, InfernetConfig(url=node.url))
