"""The backends' own SDKs against the devnet, each in a virtual environment of its own.

`start.py` installs those environments beside the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio
import pytest

from gateway.devnet.chain import node_tools
from gateway.devnet.chain.chain import make_chain
from gateway.devnet.inferencesh import InferenceshApi
from gateway.devnet.infernet import InfernetNode
from gateway.devnet.ogpu import OgpuDevnet

pytestmark = pytest.mark.anyio

SDKS = Path(sys.prefix) / "sdk"
DRIVES = Path(__file__).parent / "sdk"
_ENVIRONMENT = dict(os.environ)  # read here: no test sees it


async def drive(name: str, *args: str) -> str:
    """Run a drive script with its SDK's Python and return what it printed."""
    python = SDKS / name / "bin" / "python"
    assert python.exists(), f"the SDK {name} is not installed: run `python3 start.py setup`"
    with anyio.fail_after(240):
        done = await anyio.run_process([str(python), str(DRIVES / f"{name}_drive.py"), *args], check=False)
    output = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, output
    return output


async def test_infernet_client_runs_against_the_node() -> None:
    node = InfernetNode("node1")
    await node.start()
    try:
        output = await drive("infernet_client", node.url)
    finally:
        await node.stop()
    assert output.count("ok ") >= 10, output
    assert node.journal


@pytest.mark.parametrize("name", ["inferencesh_036", "inferencesh_078"])
async def test_inferencesh_runs_against_the_api(name: str) -> None:
    api = InferenceshApi(api_key="inf_test")
    await api.start()
    try:
        output = await drive(name, api.url, "inf_test")
    finally:
        await api.stop()
    assert output.count("ok ") >= 40, output
    assert api.journal


@pytest.mark.parametrize(
    "evm",
    [
        pytest.param(
            "revm",
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 13), reason="pyrevm has no wheels for this Python"
            ),
        ),
        "anvil",
    ],
)
async def test_ogpu_runs_against_the_contracts(evm: str) -> None:
    anvil = node_tools.find_anvil(_ENVIRONMENT) if evm == "anvil" else None
    async with OgpuDevnet(make_chain(evm=evm, chain_id=1071, anvil=anvil)) as ogpu:
        contracts = ogpu.contracts
        place = {
            "rpc_url": ogpu.rpc_url,
            "pin_url": ogpu.pin_url,
            "contracts": {
                "nexus": contracts.nexus,
                "controller": contracts.controller,
                "terminal": contracts.terminal,
                "vault": contracts.vault,
            },
            "keys": {
                "client": ogpu.client.key,
                "agent": ogpu.agent.key,
                "stranger": ogpu.stranger.key,
                "provider": ogpu.providers[0].account.key,
            },
            "providers": len(ogpu.providers),
        }
        output = await drive("ogpu", json.dumps(place))
        tasks = await ogpu.tasks_on_chain()
    assert output.count("ok ") >= 10, output
    assert [task.status for task in tasks[:4]] == ["FINALIZED", "FINALIZED", "CANCELED", "EXPIRED"]
