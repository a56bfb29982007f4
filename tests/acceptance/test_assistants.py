"""`gateway mcp` as an assistant sees it: the protocol's official client, over standard input and output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from gateway.devnet.inferencesh import InferenceshApi

pytestmark = pytest.mark.anyio

CONFIGURATION = """
[gateway]
store = "sqlite:///runs.db"

[backends.hosted]
adapter = "inferencesh"
url = "{url}"
api_key = "inf_test"

[models.sentiment.targets]
hosted = {{ app = "demo/sentiment@1a2b", cost = "0.002 USD" }}
"""


async def call(session: ClientSession, tool: str, **words: Any) -> Any:
    answer = await session.call_tool(tool, words)
    texts = [json.loads(content.text) for content in answer.content]
    assert not answer.is_error, texts
    return texts if tool == "list_models" else texts[0]


async def test_an_agent_quotes_runs_and_looks_again_after_a_restart(tmp_path: Path) -> None:
    hosted = InferenceshApi(api_key="inf_test")
    await hosted.start()
    (tmp_path / "gateway.toml").write_text(CONFIGURATION.format(url=hosted.url), encoding="utf-8")
    server = StdioServerParameters(command=sys.executable, args=["-m", "gateway", "mcp"], cwd=tmp_path)
    offer: dict[str, Any] = {}
    run: dict[str, Any] = {}
    try:
        with anyio.fail_after(120):
            for _ in range(2):
                async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
                    await session.initialize()
                    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
                    assert set(tools) == {"list_models", "quote", "run", "get", "cancel"}
                    assert all(tool.description for tool in tools.values())
                    if not offer:
                        text = "VADER is smart, handsome, and funny."
                        quoted = await call(session, "quote", model="sentiment", input={"text": text})
                        offer = quoted["offers"][0]
                        assert hosted.journal == []
                    again = await call(session, "run", quote_id=offer["quote_id"], wait_seconds=60)
                    assert again["output"]["compound"] == 0.8316
                    assert again["cost"] == {"outcome": "charged", "settled": ["0.002 USD"]}
                    assert run in ({}, again)
                    run = again
                    wrong = await session.call_tool("run", {"quote_id": "made-up"})
                    assert wrong.is_error
                    assert "there is no quote" in wrong.content[0].text
    finally:
        await hosted.stop()
    assert len(hosted.journal) == 1
