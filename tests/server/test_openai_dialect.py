"""Programs written for the OpenAI API, at the gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.adapter import Capabilities, Feature
from gateway.client import AsyncGateway
from gateway.clock import SystemClock
from gateway.config import ServerSettings
from gateway.lifecycle import Status
from gateway.server.app import App
from gateway.server.dialects.openai import make_face
from gateway.server.service import Service
from gateway.server.siblings import Siblings
from gateway.store.memory import MemoryStore
from gateway.testing import FakeAdapter
from gateway.testing.adapter import DEFAULT_FEATURES, FakeConfig
from gateway.testing.backend import Fault

pytestmark = pytest.mark.anyio

STREAMS = FakeConfig(features=DEFAULT_FEATURES | {Feature.STREAM})

STEPS = ((0.0, Status.RUNNING), (0.02, Status.COMPLETED))
QUESTION = {"role": "user", "content": "Is it raining?"}


def answer(value: Any) -> Any:
    """Answer each kind of question that the tests ask."""
    if "texts" in value:
        texts = value["texts"] if isinstance(value["texts"], list) else [value["texts"]]
        vectors = [[1e39 if text == "huge" else float(len(text)), 0.5] for text in texts]
        return {"vectors": vectors, "tokens": {"total_tokens": 3}}
    if "messages" in value:
        choice = {"index": 0, "message": {"role": "assistant", "content": "native"}, "finish_reason": "stop"}
        return {"id": "theirs", "choices": [choice], "temperature": value.get("temperature")}
    return {"text": f"You said: {value['prompt']}", "tokens": {"total_tokens": 7}}


def speak(value: Any) -> list[Any]:
    return [{"text": "Yes, "}, {"other": 1}, {"text": "it is"}]


def speak_bytes(value: Any) -> list[bytes]:
    euro = "€".encode()
    return [b"10 ", euro[:1], euro[1:]]


def speak_as_openai(value: Any) -> list[bytes]:
    """Chunks as they come from a socket, cut anywhere, with words that the gateway does not know."""
    said = [
        {"id": "theirs", "choices": [{"delta": {"content": text}}], "new": 1} for text in ("Yes, ", "it is")
    ]
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in said)
    return [stream[:3], stream[3:40], stream[40:]]


CHAT = {
    "input": {"prompt": "$.messages[-1].content"},
    "output": "$.text",
    "piece": "$.text",
    "usage": "$.tokens",
}


@pytest.fixture
async def backends() -> Mapping[str, FakeAdapter]:
    made = {
        "plain": FakeAdapter("plain", steps=STEPS, answer=answer),
        "speaking": FakeAdapter("speaking", STREAMS, steps=STEPS, answer=answer, pieces=speak),
        "bytes": FakeAdapter("bytes", STREAMS, steps=STEPS, answer=answer, pieces=speak_bytes),
        "passing": FakeAdapter("passing", STREAMS, steps=STEPS, answer=answer, pieces=speak_as_openai),
        "saying": FakeAdapter(
            "saying", STREAMS, steps=STEPS, answer=answer, pieces=lambda _: [b"data", b": 7"]
        ),
        "failing": FakeAdapter("failing", steps=STEPS, answer=answer),
        "slow": FakeAdapter("slow", steps=((0.0, Status.RUNNING), (3600.0, Status.COMPLETED))),
    }
    made["failing"].backend.arm(Fault.FAIL_JOB, times=100)
    return made


@pytest.fixture
async def client(backends: Mapping[str, FakeAdapter]) -> AsyncIterator[httpx2.AsyncClient]:
    models: dict[str, Any] = {
        name: {"targets": {name: {"app": "chat"}}, "openai": {"chat": CHAT}} for name in backends
    }
    for name in ("passing", "saying"):
        models[name]["openai"] = {"chat": {}}
    models["native"] = {"targets": {"plain": {"app": "chat"}}, "openai": {"chat": {}}}
    models["vectors"] = {
        "targets": {"plain": {"app": "vectors"}},
        "openai": {
            "embeddings": {"input": {"texts": "$.input"}, "output": "$.vectors[*]", "usage": "$.tokens"}
        },
    }
    models["uncounted"] = {
        "targets": {"plain": {"app": "vectors"}},
        "openai": {"embeddings": {**models["vectors"]["openai"]["embeddings"], "usage": "$.no"}},
    }
    models["none"] = {"targets": {"plain": {"app": "none"}}}
    models["wrong"] = {"targets": {"plain": {"app": "chat"}}, "openai": {"chat": {**CHAT, "output": "$.no"}}}
    gateway = AsyncGateway(backends.values(), models)
    service = Service(gateway, ServerSettings(wait_most="0.2s"), SystemClock())
    transport = httpx2.ASGITransport(App(service, [make_face()]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost/openai/v1") as client:
        yield client
    await service.aclose()


def ask(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [QUESTION], **more}


def read_chunks(response: httpx2.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) if "[DONE]" not in line else "done" for line in lines]


async def test_a_conversation_is_completed(client: httpx2.AsyncClient) -> None:
    response = await client.post("/chat/completions", json=ask("plain"))
    assert response.status_code == 200
    completion = response.json()
    assert completion["object"] == "chat.completion"
    assert completion["model"] == "plain"
    assert completion["choices"][0]["message"]["content"] == "You said: Is it raining?"
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"] == {"total_tokens": 7}
    assert completion["id"] == f"chatcmpl-{response.headers['x-run-id']}"


async def test_a_backend_that_speaks_this_api_is_passed_on(client: httpx2.AsyncClient) -> None:
    completion = (await client.post("/chat/completions", json=ask("native", temperature=0.5))).json()
    assert completion["id"] == "theirs"
    assert completion["choices"][0]["message"]["content"] == "native"
    assert completion["temperature"] == 0.5


async def test_models_are_those_that_speak_it(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/models")).json()
    assert "none" not in [model["id"] for model in listed["data"]]
    assert (await client.get("/models/plain")).json() == listed["data"][0]
    assert (await client.get("/models/none")).status_code == 404
    assert (await client.get("/models/no/such/model")).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("model", "said"), [("speaking", ["Yes, ", "it is"]), ("plain", ["You said: Is it raining?"])]
)
async def test_a_stream(client: httpx2.AsyncClient, model: str, said: list[str]) -> None:
    asked = ask(model, stream=True, stream_options={"include_usage": True})
    *chunks, end, usage, done = read_chunks(await client.post("/chat/completions", json=asked))
    assert done == "done"
    assert usage["usage"] == {"total_tokens": 7}
    assert usage["choices"] == []
    assert end["choices"][0]["finish_reason"] == "stop"
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == said
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


async def test_characters_are_put_together_again(client: httpx2.AsyncClient) -> None:
    chunks = read_chunks(await client.post("/chat/completions", json=ask("bytes", stream=True)))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == "10 €"


async def test_chunks_of_a_backend_that_speaks_this_api_are_passed_on_unread(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post("/chat/completions", json=ask("passing", stream=True))
    whole = b"".join(speak_as_openai({}))
    assert response.content == whole + b"data: [DONE]\n\n"
    *chunks, done = read_chunks(response)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["Yes, ", "it is"]
    assert done == "done"


async def test_text_that_only_looks_like_it_is_text(client: httpx2.AsyncClient) -> None:
    *chunks, _, done = read_chunks(await client.post("/chat/completions", json=ask("saying", stream=True)))
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "data: 7"
    assert done == "done"


async def test_a_failed_run_is_told_and_never_sent_again(client: httpx2.AsyncClient) -> None:
    response = await client.post("/chat/completions", json=ask("failing"))
    assert response.status_code == 502
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["gateway"]["run_id"] == response.headers["x-run-id"]
    chunks = read_chunks(await client.post("/chat/completions", json=ask("failing", stream=True)))
    assert chunks[-1]["error"]["code"] == "run_failed"


async def test_what_the_sdk_sends_again_is_the_run_of_before(
    client: httpx2.AsyncClient, backends: Mapping[str, FakeAdapter]
) -> None:
    first = await client.post("/chat/completions", json=ask("slow"))
    assert first.status_code == 504
    assert first.json()["error"]["code"] == "run_open"
    headers = {"x-stainless-retry-count": "1"}
    again = await client.post("/chat/completions", json=ask("slow"), headers=headers)
    assert again.headers["x-run-id"] == first.headers["x-run-id"]
    assert len(backends["slow"].backend.jobs) == 1
    other = await client.post("/chat/completions", json=ask("slow", temperature=1, n=1), headers=headers)
    assert other.headers["x-run-id"] == first.headers["x-run-id"], "both mean the same input"
    await client.post("/chat/completions", json=ask("slow"), headers={"x-stainless-retry-count": "0"})
    assert len(backends["slow"].backend.jobs) == 2


@pytest.mark.parametrize("at", [0, 1])
async def test_what_is_sent_again_before_it_is_stored_is_one_run(tmp_path: Path, at: int) -> None:
    """The SDK gives up on a request whose backend is still asked whether it is well, and sends it anew."""
    store, plain = MemoryStore(), FakeAdapter("plain", steps=STEPS, answer=answer)
    look, asked, go = plain.capabilities, asyncio.Event(), asyncio.Event()

    async def look_late() -> Capabilities:
        asked.set()
        await go.wait()
        return await look()

    plain.capabilities = look_late  # type: ignore[method-assign]
    models = {"plain": {"targets": {"plain": {"app": "chat"}}, "openai": {"chat": CHAT}}}
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(2):
            service = Service(AsyncGateway([plain], models, store=store), ServerSettings(), SystemClock())
            stack.push_async_callback(service.aclose)
            await service.start()
            service.siblings = Siblings(service, tmp_path / f"{number}.sock")
            await service.siblings.open()
            transport = httpx2.ASGITransport(App(service, [make_face()]))
            client = httpx2.AsyncClient(transport=transport, base_url="http://localhost/openai/v1")
            clients.append(await stack.enter_async_context(client))
        first = asyncio.create_task(clients[0].post("/chat/completions", json=ask("plain")))
        await asked.wait()
        again = asyncio.create_task(
            clients[at].post("/chat/completions", json=ask("plain"), headers={"x-stainless-retry-count": "1"})
        )
        await asyncio.wait({again}, timeout=0.1)
        go.set()
        ids = {(await sent).headers["x-run-id"] for sent in (first, again)}
    assert len(ids) == len(plain.backend.jobs) == 1


@pytest.mark.parametrize("count", [b"\xb2", b"9" * 5000, b"-1", b"", b"00"])
async def test_a_count_that_is_none_is_no_repetition(
    client: httpx2.AsyncClient, backends: Mapping[str, FakeAdapter], count: bytes
) -> None:
    headers = [(b"x-stainless-retry-count", count)]
    answers = [await client.post("/chat/completions", json=ask("plain"), headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(backends["plain"].backend.jobs) == (1 if count[:1] == b"9" else 2)


async def test_an_idempotency_key_holds(
    client: httpx2.AsyncClient, backends: Mapping[str, FakeAdapter]
) -> None:
    headers = {"idempotency-key": "abc"}
    ids = {
        (await client.post("/chat/completions", json=ask("plain"), headers=headers)).headers["x-run-id"]
        for _ in range(3)
    }
    assert len(ids) == len(backends["plain"].backend.jobs) == 1


async def test_an_idempotency_key_holds_for_a_stream_of_a_model_that_nobody_streams(
    client: httpx2.AsyncClient, backends: Mapping[str, FakeAdapter]
) -> None:
    headers = {"idempotency-key": "abc"}
    answers = [
        await client.post("/chat/completions", json=ask("plain", stream=True), headers=headers)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
    assert answers[0].content == answers[1].content
    assert len(backends["plain"].backend.jobs) == 1


@pytest.mark.parametrize("texts", ["hello", ["hello", "you"]])
async def test_embeddings(client: httpx2.AsyncClient, texts: Any) -> None:
    expected = [[5.0, 0.5], [3.0, 0.5]][: 1 if isinstance(texts, str) else 2]
    response = await client.post("/embeddings", json={"model": "vectors", "input": texts})
    assert response.status_code == 200, response.text
    assert [item["embedding"] for item in response.json()["data"]] == expected
    assert response.json()["usage"] == {"total_tokens": 3}
    asked = {"model": "vectors", "input": texts, "encoding_format": "base64"}
    packed = (await client.post("/embeddings", json=asked)).json()["data"]
    assert [list(struct.unpack("<2f", base64.b64decode(item["embedding"]))) for item in packed] == expected


async def test_embeddings_are_not_lost_because_their_usage_is_not_told(client: httpx2.AsyncClient) -> None:
    response = await client.post("/embeddings", json={"model": "uncounted", "input": "hello"})
    assert response.status_code == 200, response.text
    assert response.json()["data"][0]["embedding"] == [5.0, 0.5]
    assert response.json()["usage"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/chat/completions", ask("nope"), 404, "nope"),
        ("/chat/completions", ask("none"), 404, "none"),
        ("/chat/completions", ask("vectors"), 404, "openai.chat"),
        ("/embeddings", {"model": "plain", "input": "x"}, 404, "openai.embeddings"),
        ("/chat/completions", {"model": "plain"}, 400, "messages"),
        ("/chat/completions", {"model": "plain", "messages": ["x"]}, 400, "messages"),
        ("/chat/completions", {"messages": [QUESTION]}, 400, "model"),
        ("/chat/completions", [], 400, "object"),
        ("/chat/completions", ask("plain", n=2), 400, "one choice"),
        ("/chat/completions", ask("plain", n="2"), 400, "n must be"),
        ("/chat/completions", ask("plain", tools=[{}]), 400, "tools"),
        ("/chat/completions", ask("plain", stream="yes"), 400, "stream"),
        ("/chat/completions", ask("plain", gateway={"max": 1}), 400, "gateway"),
        ("/chat/completions", ask("plain", gateway={"backend": "nope"}), 404, "nope"),
        ("/chat/completions", ask("wrong"), 502, "models.wrong.openai.chat"),
        ("/embeddings", {"model": "vectors"}, 400, "input"),
        ("/embeddings", {"model": "vectors", "input": "x", "encoding_format": "hex"}, 400, "encoding_format"),
        ("/embeddings", {"model": "vectors", "input": "huge", "encoding_format": "base64"}, 502, "too large"),
    ],
)
async def test_refusals(client: httpx2.AsyncClient, path: str, body: Any, status: int, told: str) -> None:
    response = await client.post(path, json=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert told in error["message"]
    assert error.keys() >= {"message", "type", "param", "code"}


async def test_the_request_may_speak_to_the_gateway(client: httpx2.AsyncClient) -> None:
    own = {"backend": ["plain"], "limits": {"max_cost": "1 USD"}, "labels": {"team": "a"}}
    assert (await client.post("/chat/completions", json=ask("plain", gateway=own))).status_code == 200
