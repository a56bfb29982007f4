"""No key, password or keystore of OGPU's comes out anywhere: it is looked for wherever something is said."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from eth_account import Account
from ogpu_setup import start_ogpu

from gateway import AsyncGateway, RunFailed, Task
from gateway.clock import SystemClock
from gateway.config import load
from gateway.devnet.ogpu import ChainFault, OgpuDevnet
from gateway.errors import GatewayError
from gateway.registry import make_adapters
from gateway.types import Money
from gateway_ogpu import OgpuClient, OgpuConfig

pytestmark = pytest.mark.anyio

PASSWORD = "open-sesame-8472"
RPC_KEY = "rpc-key-5519"
NODE_KEY = "Bearer-of-the-node-3301"
NOWHERE = "0x" + "ab" * 20
WAYS = ("private_key from a file", "private_key from the environment", "keystore")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def ogpu(anyio_backend: str) -> AsyncIterator[OgpuDevnet]:
    async with start_ogpu() as ogpu:
        yield ogpu


def make_keystore(ogpu: OgpuDevnet) -> dict[str, Any]:
    keystore: dict[str, Any] = Account.encrypt(ogpu.client.key, PASSWORD, kdf="pbkdf2", iterations=10)
    return keystore


class Place:
    """A configuration that reaches the account in one of the ways, and all that must never be seen."""

    def __init__(self, ogpu: OgpuDevnet, folder: Path, way: str) -> None:
        self.folder = folder
        self.config = folder / "gateway.toml"
        self.env = {}
        keystore = make_keystore(ogpu)
        if way == "keystore":
            (folder / "wallet.secret").write_text(json.dumps(keystore))
            self.env = {"OGPU_PASSWORD": PASSWORD}
            account = 'keystore = "file:wallet.secret"\nkeystore_password = "env:OGPU_PASSWORD"'
        elif way == "private_key from a file":
            (folder / "key.secret").write_text(ogpu.client.key + "\n")
            account = 'private_key = "file:key.secret"'
        else:
            self.env = {"OGPU_PRIVATE_KEY": ogpu.client.key}
            account = 'private_key = "env:OGPU_PRIVATE_KEY"'
        names = ("nexus", "controller", "terminal", "vault")
        contracts = ", ".join(f'{name} = "{getattr(ogpu.contracts, name)}"' for name in names)
        self.config.write_text(f"""
[gateway]
store = "sqlite:///runs.db"

[backends.chain]
adapter = "ogpu"
chain_id = {ogpu.chain_id}
contracts = {{ {contracts} }}
rpc_url = "{ogpu.rpc_url}/?key={RPC_KEY}"
pin_url = "{ogpu.pin_url}"
content_gateways = ["{ogpu.gateway_url}"]
content_cache = "{folder / "cache"}"
{account}

[models.good.targets]
chain = {{ source = "{ogpu.first_response}", function = "echo", payment = "0.01 OGPU" }}
[models.nowhere.targets]
chain = {{ source = "{NOWHERE}", function = "echo", payment = "0.01 OGPU" }}
""")
        key = ogpu.client.key.removeprefix("0x").lower()
        self.hidden = (key, str(int(key, 16)), PASSWORD, RPC_KEY, NODE_KEY, keystore["crypto"]["ciphertext"])
        self.raw = bytes.fromhex(key)

    def search(self, what: str, said: str) -> None:
        found = [secret[:8] for secret in self.hidden if secret in said.lower() or secret in said]
        assert not found, f"{what} tells {found}"

    def search_log(self, caplog: pytest.LogCaptureFixture) -> None:
        """Look through all logs, those of web3 included."""
        for record in caplog.records:
            self.search(record.name, caplog.handler.format(record))

    def search_files(self) -> None:
        paths = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".secret"]
        assert any(path.suffix == ".db" for path in paths)
        for path in paths:
            data = path.read_bytes()
            assert self.raw not in data, path
            if path != self.config:  # where the user wrote the RPC's key
                self.search(path.name, data.decode("latin-1"))


@pytest.fixture(params=WAYS)
def place(
    request: pytest.FixtureRequest, ogpu: OgpuDevnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    place = Place(ogpu, tmp_path, request.param)
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    yield place
    ogpu.faults.clear()


async def test_runs_logs_errors_and_the_store_tell_nothing(
    ogpu: OgpuDevnet, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with AsyncGateway.from_config(place.config) as gateway:
        done = await gateway.run(Task(model="good", input={"text": "fine"}))
        place.search("a run", f"{done!r} {done} {done.model_dump_json()}")
        events = [event async for event in gateway.events(done.id)]
        place.search("its events", repr(events))
        for fault, model in (
            (None, "nowhere"),
            (ChainFault.ERROR_OBJECT, "good"),
            (ChainFault.GARBAGE, "good"),
        ):
            if fault is not None:
                ogpu.faults.arm(fault, times=2)
            try:
                run = await gateway.run(Task(model=model, input={"text": "fine"}))
            except RunFailed as failed:
                run = failed.run
                place.search("a failed run", "".join(traceback.format_exception(failed)))
            place.search("a run", str(run.model_dump_json()))
        place.search("a plan", repr(await gateway.plan(Task(model="good", input={}))))
    place.search_log(caplog)
    place.search_files()


async def test_objects_and_errors_of_the_client_tell_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    backends = load(place.config).backends
    adapter: Any = make_adapters(backends, SystemClock())["chain"]
    client = adapter.make_client()
    async with client:
        await client.deposit(Money.parse("1 OGPU"))
        connection = client.connection
        inside = [adapter, client, connection, connection.config, connection.signer, connection.transactions]
        for each in [*inside, connection.rpc, load(place.config), backends["chain"]]:
            place.search(type(each).__name__, f"{each!r} {each}")
        for act in (
            lambda: client.inactivate_source(NOWHERE),
            lambda: client.withdraw(Money.parse("1000000 OGPU")),
            lambda: client.get_task(NOWHERE),
        ):
            with pytest.raises(GatewayError) as caught:
                await act()
            place.search("an error", "".join(traceback.format_exception(caught.value)))
            place.search("its fields", repr(vars(caught.value)))
    place.search_log(caplog)


@pytest.mark.parametrize(
    "words",
    [
        {"keystore_password": "wrong-" + PASSWORD},
        {"keystore": "{}", "keystore_password": PASSWORD},
        {"keystore": PASSWORD, "keystore_password": PASSWORD},
        {"private_key": PASSWORD},
    ],
    ids=["wrong password", "no keystore", "no json", "no key"],
)
async def test_what_can_not_be_opened_is_not_shown(
    ogpu: OgpuDevnet, tmp_path: Path, caplog: pytest.LogCaptureFixture, words: dict[str, str]
) -> None:
    caplog.set_level(logging.DEBUG)
    place = Place(ogpu, tmp_path, "keystore")
    keystore = {} if "private_key" in words else {"keystore": json.dumps(make_keystore(ogpu))}
    config = OgpuConfig(**{"network": "testnet", **keystore, **words})  # type: ignore[arg-type]
    async with OgpuClient(config) as client:
        with pytest.raises(GatewayError) as caught:
            await client.deposit(Money.parse("1 OGPU"))
    place.search("the error", "".join(traceback.format_exception(caught.value)))
    place.search("the configuration", f"{config!r} {config.model_dump_json()}")
    place.search_log(caplog)


async def test_a_terminal_tells_nothing_even_when_it_tells_everything(ogpu: OgpuDevnet, place: Place) -> None:
    said = ""
    for words in (
        ["doctor"],
        ["run", "good", "--text", "fine", "--json"],
        ["run", "nowhere", "--text", "fine", "--json"],
        ["ogpu", "deposit", "1 OGPU"],
        ["ogpu", "task", NOWHERE],
    ):
        done = await anyio.run_process(
            [sys.executable, "-m", "gateway", "--debug", *words],
            cwd=place.folder,
            env={**os.environ, **place.env},
            check=False,
        )
        said += done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 3, "nobody knows that task"
    assert '"output":{"text":"fine"}' in said, said
    place.search("the terminal", said)
    place.search_files()
