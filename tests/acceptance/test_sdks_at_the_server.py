"""The official clients of three APIs, with another URL, at `gateway serve` over `gateway devnet up`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import serving
from terminal import Terminal

SDKS = Path(sys.prefix) / "sdk"
DRIVES = Path(__file__).parent / "sdk"

CONFIGURATION = """
[gateway]
store = "sqlite:///sdks.db"

[backends.node]
adapter = "infernet"
url = "{node}"

[backends.hosted]
adapter = "inferencesh"
url = "{hosted}"
api_key = "{key}"

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


def write_configuration(node: str, hosted: str, key: str) -> str:
    text = CONFIGURATION.format(node=node, hosted=hosted, key=key)
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

    def drive(self, name: str, *words: str) -> str:
        """Run a drive script with its SDK's Python and return what it printed."""
        python = SDKS / name / "bin" / "python"
        assert python.exists(), f"the SDK {name} is not installed: run `python3 start.py setup`"
        command = [str(python), str(DRIVES / f"{name}_drive.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        return output


@pytest.fixture(params=["1", "2"])
def server(terminal: Terminal, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of so many workers, over the devnet; each a process, or several."""
    with (terminal.folder / "gateway.toml").open("rb") as file:
        written = tomllib.load(file)["backends"]
    text = write_configuration(
        written["node1"]["url"], written["hosted"]["url"], written["hosted"]["api_key"]
    )
    (terminal.folder / "sdks.toml").write_text(text, encoding="utf-8")
    for path in terminal.folder.glob("sdks.db*"):
        path.unlink()
    key = terminal.say("keys", "create", "sdk", "--config", "sdks.toml").strip()
    with serving(terminal, "--config", "sdks.toml", "--workers", request.param) as (_, client):
        yield Server(str(client.base_url).rstrip("/"), key)


def test_infernet_client(server: Server) -> None:
    url = f"http://any:{server.key}@{server.place}/infernet"
    checks = ["health", "info", "job", "chain", "failure", "refusal", "batch", "stream", "binary_stream"]
    output = server.drive("infernet_client", url, *checks)
    assert count(output) == len(checks), output


def test_inferencesh_036(server: Server) -> None:
    output = server.drive("inferencesh_036", f"{server.url}/inferencesh", server.key, "runs")
    assert count(output) >= 40, output


def test_inferencesh_078(server: Server) -> None:
    output = server.drive("inferencesh_078", f"{server.url}/inferencesh", server.key)
    assert count(output) >= 40, output


def test_openai(server: Server) -> None:
    output = server.drive("openai", f"{server.url}/openai/v1", server.key)
    assert count(output) == 12, output
