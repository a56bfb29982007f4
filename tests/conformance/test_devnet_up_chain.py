"""`gateway devnet up` with its chain: each fault that can be armed there, and what a run makes of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.client import AsyncGateway
from gateway.devnet import chains
from gateway.devnet.chain.chain_faults import ChainFault
from gateway.devnet.control import Control, State, ask
from gateway.devnet.ogpu import ContentFault, Manner
from gateway.devnet.up import Devnet, open_devnet
from gateway.errors import ConfigError, InvalidInput, RunFailed
from gateway.lifecycle import Status
from gateway.task import Run, Task

pytestmark = pytest.mark.anyio

# The run gets its answer, and the chain has one task of it. A REORG takes away
# whatever is in the newest block; the others are what a node or a service does in a bad minute.
SURVIVED: list[tuple[str, str, dict[str, Any]]] = [
    ("chain", "answer_lost", {}),
    ("chain", "already_known", {}),
    ("chain", "known_and_dropped", {}),
    ("chain", "nonce_too_low", {}),
    ("chain", "dropped", {}),
    ("chain", "stale_nonce", {"times": 2}),
    ("chain", "receipt_missing", {"times": 3}),
    ("chain", "block_not_found", {"times": 2}),
    ("chain", "no_batch", {"times": None}),
    ("chain", "legacy_only", {}),
    ("chain", "refuse_tips", {}),
    ("chain", "reorg", {}),
    ("chain", "server_error", {"on": "eth_sendRawTransaction"}),
    ("chain", "error_after", {"on": "eth_sendRawTransaction"}),
    ("chain", "garbage", {"on": "eth_sendRawTransaction"}),
    ("chain", "rate_limit", {"on": "eth_getLogs"}),
    ("chain", "error_object", {"on": "eth_getTransactionReceipt"}),
    ("content", "down", {"on": "pin"}),
    ("content", "answer_lost", {}),
    ("content", "tamper", {}),
    ("content", "truncate", {}),
    ("content", "swap", {}),
    ("content", "rate_limit", {"on": "pin"}),
    ("bots", "unpinned_host", {}),
]
PAID_FOR_NOTHING = {"garbage": "not_json", "foreign_url": "no_cid"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def devnet(anyio_backend: str) -> AsyncIterator[Devnet]:
    async with open_devnet(chain=True, block_seconds=None) as devnet:
        yield devnet


@pytest.fixture
async def page(devnet: Devnet, tmp_path: Path) -> AsyncIterator[State]:
    """The control page, with nothing armed."""
    control = Control(devnet.network)
    devnet.write_config(tmp_path / "gateway.toml")
    try:
        yield await control.start(tmp_path / "gateway.toml")
    finally:
        devnet.network.clear()
        await devnet.network.start()
        await control.stop()


async def run(folder: Path, text: str) -> Run:
    async with AsyncGateway.from_config(folder / "gateway.toml") as gateway:
        try:
            return await gateway.run(Task(model="echo-on-ogpu", input={"text": text}))
        except RunFailed as failed:
            return failed.run


async def list_armed(page: State, name: str) -> list[Any]:
    (armed,) = [one["faults"] for one in await ask(page, "status") if one["name"] == name]
    return list(armed)


async def count_on_chain(page: State, text: str) -> int:
    lines = [line for line in await ask(page, "journal") if line["input"] == {"text": text}]
    return sum(line["backend"] == "chain" for line in lines)


@pytest.mark.parametrize(("name", "fault", "words"), SURVIVED, ids=str)
async def test_every_fault_can_be_armed_and_is_survived(
    page: State, tmp_path: Path, name: str, fault: str, words: dict[str, Any]
) -> None:
    text = uuid.uuid4().hex
    await ask(page, "fault", {"name": name, "fault": fault, **words})
    (armed,) = await list_armed(page, name)
    done = await run(tmp_path, text)
    assert done.status is Status.COMPLETED, done.failure
    assert done.output == {"text": text}
    assert await count_on_chain(page, text) == 1
    left = await list_armed(page, name)
    assert left == ([armed] if armed["times"] is None else []), "it never struck"


@pytest.mark.parametrize("fault", sorted(PAID_FOR_NOTHING))
async def test_an_answer_that_is_none_is_told_with_what_it_cost(
    page: State, tmp_path: Path, fault: str
) -> None:
    text = uuid.uuid4().hex
    await ask(page, "fault", {"name": "bots", "fault": fault})
    done = await run(tmp_path, text)
    assert done.failure is not None
    assert (done.failure.code, done.cost_outcome) == (PAID_FOR_NOTHING[fault], "charged")
    assert await count_on_chain(page, text) == 1


async def test_bots_that_are_stopped_work_it_off_when_they_come_back(page: State, tmp_path: Path) -> None:
    text = uuid.uuid4().hex
    assert not (await ask(page, "stop", {"name": "bots"}))[4]["up"]
    async with AsyncGateway.from_config(tmp_path / "gateway.toml") as gateway:
        submitted = await gateway.submit(Task(model="echo-on-ogpu", input={"text": text}))
        while not await count_on_chain(page, text):  # noqa: ASYNC110  another process would look as well
            await asyncio.sleep(0.02)
        await ask(page, "start", {"name": "bots"})
        assert (await gateway.wait(submitted.id, timeout=60)).output == {"text": text}


async def test_a_chain_that_is_taken_away_takes_nothing(page: State, tmp_path: Path) -> None:
    text = uuid.uuid4().hex
    assert not (await ask(page, "fault", {"name": "chain", "fault": "refuse"}))[2]["up"]
    async with AsyncGateway.from_config(tmp_path / "gateway.toml") as gateway:
        done = await gateway.run(Task(model="sentiment-anywhere", input={"text": text}), ["chain", "node1"])
    assert done.attempts[-1].backend == "node1"
    await ask(page, "restart", {"name": "chain"})
    assert await count_on_chain(page, text) == 0


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"name": "chain", "fault": "reorgs"}, "did you mean 'reorg'"),
        ({"name": "node1", "fault": "reorg"}, "no fault 'reorg' here"),
        ({"name": "chain", "fault": "garbage", "on": "eth_sendRaw"}, "did you mean 'eth_sendRawTransaction'"),
        ({"name": "content", "fault": "down", "on": "submit"}, "known: pin, read"),
        ({"name": "bot", "fault": "silent"}, "did you mean 'bots'"),
    ],
)
async def test_a_word_that_is_not_known_there_is_refused(
    page: State, said: dict[str, str], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        await ask(page, "fault", said)


async def test_every_word_is_armed(page: State) -> None:
    for name, kind in (("chain", ChainFault), ("content", ContentFault), ("bots", Manner)):
        words = [fault.value for fault in kind if fault.value != "refuse"]
        for fault in words:
            await ask(page, "fault", {"name": name, "fault": fault})
        assert [one["fault"] for one in await list_armed(page, name)] == words
        await ask(page, "clear", {"name": name})


async def test_without_what_a_chain_needs_there_is_a_devnet_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chains, "explain_missing", lambda: "a local chain needs web3: pip install it")
    async with open_devnet(chain=None) as devnet:
        assert [one["name"] for one in devnet.network.describe()] == ["node1", "hosted"]
        assert devnet.chainless == "a local chain needs web3: pip install it"
    with pytest.raises(ConfigError, match="pip install it"):
        async with open_devnet(chain=True):
            pass
    async with open_devnet(chain=False) as devnet:
        assert devnet.chainless is None


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chains.explain_missing() is None
    monkeypatch.setattr(chains, "find_spec", lambda name: None)
    told = chains.explain_missing()
    assert told is not None
    assert "web3 and eth_account: pip install" in told
