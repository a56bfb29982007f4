"""What `gateway devnet up` is made of: its configuration, the stand-ins by name, the control page."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from gateway.client import AsyncGateway
from gateway.devnet.chain.deploy import Addresses
from gateway.devnet.control import Control, State, ask, load_state, write_state
from gateway.devnet.faults import Fault, Operation
from gateway.devnet.settings import ChainPlace, check_replaceable, make_config_text
from gateway.devnet.up import Devnet, open_devnet
from gateway.errors import ConfigError, InvalidInput, UnknownBackend
from gateway.task import Task

pytestmark = pytest.mark.anyio


@pytest.fixture
async def devnet() -> AsyncIterator[Devnet]:
    async with open_devnet() as devnet:
        yield devnet


@asynccontextmanager
async def controlled(devnet: Devnet, folder: Path) -> AsyncIterator[tuple[Control, State]]:
    control = Control(devnet.network)
    state = await control.start(folder / "gateway.toml")
    try:
        yield control, state
    finally:
        await control.stop()


async def test_a_model_answers_the_same_wherever_it_runs(devnet: Devnet, tmp_path: Path) -> None:
    devnet.write_config(tmp_path / "gateway.toml")
    inputs = {
        "sentiment": {"text": "VADER is smart, handsome, and funny."},
        "echo": {"any": ["thing", 1, None]},
        "words": {"text": "one two three"},
        "sleep": {"seconds": 0.01},
    }
    async with AsyncGateway.from_config(tmp_path / "gateway.toml") as gateway:
        for model, given in inputs.items():
            task = Task(model=model, input=given)
            answers = [(await gateway.run(task, backend)).output for backend in ("node1", "hosted")]
            assert answers[0] == answers[1], model
        shared = {name for name, model in gateway.models.items() if len(model.targets) == 2}
    assert shared == {*inputs, "fail"}


async def test_the_secrets_beside_the_configuration_are_for_its_owner(devnet: Devnet, tmp_path: Path) -> None:
    devnet.write_config(tmp_path / "deep" / "gateway.toml")
    key = tmp_path / "deep" / ".gateway-devnet-key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert "inf_devnet" not in devnet.config_text


def test_the_configuration_of_a_chain_is_complete() -> None:
    place = ChainPlace("http://127.0.0.1:1", Addresses("0xa", "0xb", "0xc", "0xd"), "0xkey")
    data = tomllib.loads(make_config_text("http://a", "http://b", place))
    assert data["backends"]["node1"]["chain"]["registry"] == "0xa"
    assert data["models"]["sentiment-on-chain"]["targets"]["node1"]["delegated"] == {"owner": "0xd"}
    assert "0xkey" not in str(data)


def test_only_what_the_devnet_wrote_and_nobody_changed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    check_replaceable(path)
    path.write_text(make_config_text("http://a", "http://b"))
    check_replaceable(path)
    path.write_text(path.read_text() + "\n[models.mine.targets]\n")
    with pytest.raises(ConfigError, match="--force"):
        check_replaceable(path)
    path.write_text("[gateway]\n")
    with pytest.raises(ConfigError, match="--force"):
        check_replaceable(path)


async def test_the_control_page_does_what_it_is_told(devnet: Devnet, tmp_path: Path) -> None:
    async with controlled(devnet, tmp_path) as (control, state):
        fault = {"name": "node1", "fault": "hang", "on": "poll", "times": None, "skip": 2}
        found = await ask(state, "fault", fault)
        assert found[0]["faults"] == [{"fault": "hang", "on": "poll", "times": None, "skip": 2}]
        assert (await ask(state, "clear", {}))[0]["faults"] == []
        assert not (await ask(state, "stop", {"name": "hosted"}))[1]["up"]
        assert (await ask(state, "start", {"name": "hosted"}))[1]["up"]
        assert (await ask(state, "restart", {"name": "node1"}))[0]["up"]
        assert not (await ask(state, "fault", {"name": "node1", "fault": "refuse"}))[0]["up"]
        assert not control.ended.is_set()
        await ask(state, "down", {})
        assert control.ended.is_set()


async def test_the_journal_tells_what_was_accepted(devnet: Devnet, tmp_path: Path) -> None:
    devnet.write_config(tmp_path / "gateway.toml")
    async with controlled(devnet, tmp_path) as (_, state):
        assert await ask(state, "journal") == []
        async with AsyncGateway.from_config(tmp_path / "gateway.toml") as gateway:
            await gateway.run(Task(model="echo", input={"a": 1}), "node1")
            await gateway.run(Task(model="echo", input={"b": 2}), "hosted")
        lines = await ask(state, "journal")
    assert [(line["backend"], line["input"]) for line in lines] == [("node1", {"a": 1}), ("hosted", {"b": 2})]


@pytest.mark.parametrize(
    ("order", "said", "told"),
    [
        ("stop", {"name": "nod1"}, "did you mean 'node1'"),
        ("fault", {"name": "node1", "fault": "bang"}, "there is no fault 'bang' here; did you mean 'hang'"),
        ("fault", {"name": "node1", "fault": "hang", "on": "pol"}, "did you mean 'poll'"),
        ("explode", {}, "explode"),
    ],
)
async def test_the_control_page_refuses_what_it_does_not_know(
    devnet: Devnet, tmp_path: Path, order: str, said: dict[str, str], told: str
) -> None:
    async with controlled(devnet, tmp_path) as (_, state):
        with pytest.raises(InvalidInput, match=told):
            await ask(state, order, said)


async def test_nobody_controls_it_without_the_token(devnet: Devnet, tmp_path: Path) -> None:
    async with controlled(devnet, tmp_path) as (control, state):
        with pytest.raises(InvalidInput, match="token"):
            await ask(replace(state, token="guessed"), "down", {})
        async with httpx2.AsyncClient(base_url=state.url) as client:
            assert (await client.post("/down", json={})).status_code == 403
        assert not control.ended.is_set()


async def test_a_devnet_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no devnet runs in"):
        load_state(tmp_path)
    write_state(tmp_path, State("http://127.0.0.1:9", "token", 1, "gateway.toml"))
    assert (tmp_path / ".gateway-devnet.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="does not answer"):
        await ask(load_state(tmp_path), "status")
    (tmp_path / ".gateway-devnet.json").write_text("{}")
    with pytest.raises(ConfigError, match="can't be read"):
        load_state(tmp_path)


async def test_a_port_that_is_taken_is_told(devnet: Devnet) -> None:
    port = httpx2.URL(devnet.network.get("hosted").url).port
    with pytest.raises(ConfigError, match="can't listen"):
        async with open_devnet(api_port=port or 0):
            pass


async def test_stand_ins_are_known_by_name(devnet: Devnet) -> None:
    with pytest.raises(UnknownBackend, match="did you mean 'hosted'"):
        devnet.network.get("hostd")
    await devnet.network.arm("hosted", Fault.HANG, on=Operation.CANCEL)
    await devnet.network.refresh()
    await devnet.network.stop("hosted")
    await devnet.network.stop("hosted")
    hosted = devnet.network.describe()[1]
    assert (hosted["up"], len(hosted["faults"])) == (False, 1)
