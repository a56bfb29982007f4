"""The official clients of three APIs, unchanged but for the URL, at a server over the devnet's backends."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from gateway.devnet.inferencesh import InferenceshApi
from gateway.devnet.infernet import InfernetNode

pytestmark = pytest.mark.anyio

SDKS = Path(sys.prefix) / "sdk"
DRIVES = Path(__file__).parent / "sdk"

CONFIGURATION = """
[gateway]
store = "sqlite:///runs.db"

[backends.node]
adapter = "infernet"
url = "{node}"

[backends.hosted]
adapter = "inferencesh"
url = "{hosted}"
api_key = "inf_test"

[models.mood]
targets = {{ node = {{ containers = ["sentiment"], input = {{ text = "$.text" }} }} }}
openai.chat = {{ input = {{ text = "$.messages[-1].content" }}, output = "$.output.compound" }}

[models.vectors]
targets = {{ node = {{ containers = ["sentiment"] }} }}

[models.vectors.openai.embeddings]
input = {{ text = "$.input[0]" }}
output = ["$.output.neg", "$.output.neu", "$.output.pos"]
"""
CONTAINERS = ("sentiment", "echo", "upper", "fail", "words")
APPS = ("sentiment", "sleep", "fail", "words", "file-length", "needs-secret", "rejected", "echo")


def write_configuration(node: str, hosted: str) -> str:
    text = CONFIGURATION.format(node=node, hosted=hosted)
    for name in CONTAINERS:
        text += f'\n[models.{name}]\ntargets = {{ node = {{ containers = ["{name}"] }} }}\n'
        if name == "words":
            text += 'openai.chat = { input = { text = "$.messages[-1].content" }, output = "$.output" }\n'
    text += '\n[models."echo,upper"]\ntargets = { node = { containers = ["echo", "upper"] } }\n'
    for name in (*(f"demo/{app}" for app in APPS), "infsh/session-test"):
        text += f'\n[models."{name}"]\ntargets = {{ hosted = {{ app = "{name}" }} }}\n'
    return text


def count(output: str) -> int:
    return sum(line.startswith("ok ") for line in output.splitlines())


class Server:
    """A server's address, and a key for it."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key
        self.place = url.removeprefix("http://")

    async def drive(self, name: str, *words: str) -> str:
        """Run a drive script with its SDK's Python and return what it printed."""
        python = SDKS / name / "bin" / "python"
        assert python.exists(), f"the SDK {name} is not installed: run `python3 start.py setup`"
        with anyio.fail_after(300):
            done = await anyio.run_process(
                [str(python), str(DRIVES / f"{name}_drive.py"), *words], check=False
            )
        output = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, output
        return output


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    node, hosted = InfernetNode("node"), InferenceshApi(api_key="inf_test")
    await node.start()
    await hosted.start()
    (tmp_path / "gateway.toml").write_text(write_configuration(node.url, hosted.url), encoding="utf-8")
    command = [sys.executable, "-m", "gateway"]
    made = await anyio.run_process([*command, "keys", "create", "sdk"], cwd=tmp_path)
    found = re.search(r"\bgw_\S+", made.stdout.decode())
    assert found is not None, made.stdout.decode()
    try:
        async with await anyio.open_process([*command, "serve", "--port", "0"], cwd=tmp_path) as process:
            try:
                assert process.stdout is not None
                with anyio.fail_after(60):
                    line = (await process.stdout.receive()).decode()
                url = re.search(r"http://[0-9.:]+", line)
                assert url is not None, line
                yield Server(url[0], found[0])
            finally:
                process.terminate()
                with anyio.fail_after(60):
                    await process.wait()
    finally:
        await hosted.stop()
        await node.stop()


async def test_infernet_client(server: Server) -> None:
    url = f"http://any:{server.key}@{server.place}/infernet"
    checks = ["health", "info", "job", "chain", "failure", "refusal", "batch", "stream", "binary_stream"]
    output = await server.drive("infernet_client", url, *checks)
    assert count(output) == len(checks), output


async def test_inferencesh_036(server: Server) -> None:
    output = await server.drive("inferencesh_036", f"{server.url}/inferencesh", server.key, "runs")
    assert count(output) >= 40, output


async def test_inferencesh_078(server: Server) -> None:
    output = await server.drive("inferencesh_078", f"{server.url}/inferencesh", server.key)
    assert count(output) >= 40, output


async def test_openai(server: Server) -> None:
    output = await server.drive("openai", f"{server.url}/openai/v1", server.key)
    assert count(output) == 12, output
