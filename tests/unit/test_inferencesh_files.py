"""Files of an input: only what is marked, put without the key, several at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import respx

from gateway.errors import InvalidInput, Rejected, Unavailable
from gateway.files import File, encode_files
from gateway.task import Task
from gateway.types import AttemptId
from gateway_inferencesh import InferenceshAdapter, InferenceshConfig

pytestmark = pytest.mark.anyio

API = "https://api.inference.sh"
STORAGE = "https://storage.example"


@pytest.fixture
async def adapter() -> AsyncIterator[InferenceshAdapter]:
    adapter = InferenceshAdapter("hosted", InferenceshConfig.model_validate({"api_key": "inf_secret"}))
    yield adapter
    await adapter.aclose()


@pytest.fixture
def wire() -> Any:
    with respx.mock(assert_all_called=False) as router:
        yield router


def announce(wire: Any) -> Any:
    def answer(request: httpx2.Request) -> httpx2.Response:
        files = json.loads(request.content)["files"]
        told = [
            {
                "id": f"f{n}",
                "uri": f"https://cdn.example/{n}/{file['filename']}",
                "upload_url": f"{STORAGE}/{n}?signature=s",
            }
            for n, file in enumerate(files)
        ]
        return httpx2.Response(200, json={"data": told, "messages": []})

    return wire.post(f"{API}/files").mock(side_effect=answer)


async def prepare(adapter: InferenceshAdapter, input: Any) -> Any:
    envelope = await adapter.prepare(Task(input=input), {"app": "acme/see"}, attempt_id=AttemptId("a1"))
    return envelope.payload["body"]["input"]


async def test_each_kind_of_file(adapter: Any, wire: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"PNG")
    files = announce(wire)
    puts = wire.put(url__startswith=STORAGE).mock(return_value=httpx2.Response(200))
    given = {
        "image": File(path=path),
        "more": [
            File(data=b"\x00\x01", filename="b.bin"),
            {"deep": File(uri="data:text/plain;x=y;base64,aGk=")},
        ],
        "text": str(path),
    }
    found = await prepare(adapter, encode_files(given))
    assert found == {
        "image": "https://cdn.example/0/a.png",
        "more": ["https://cdn.example/1/b.bin", {"deep": "https://cdn.example/2/file"}],
        "text": str(path),
    }
    assert files.call_count == 1
    announced = json.loads(files.calls[0].request.content)["files"]
    assert announced[0] == {
        "uri": "",
        "filename": "a.png",
        "content_type": "image/png",
        "path": "a.png",
        "size": 3,
    }
    assert str(tmp_path) not in files.calls[0].request.content.decode()
    sent = {call.request.url.path: call.request for call in puts.calls}
    assert {path: request.content for path, request in sent.items()} == {
        "/0": b"PNG",
        "/1": b"\x00\x01",
        "/2": b"hi",
    }
    assert sent["/0"].headers["content-type"] == "image/png"
    assert sent["/2"].headers["content-type"] == "text/plain;x=y"


async def test_files_in_code_need_no_encoding(adapter: Any, wire: Any) -> None:
    announce(wire)
    wire.put(url__startswith=STORAGE).mock(return_value=httpx2.Response(200))
    assert await prepare(adapter, File(data=b"x", filename="x")) == "https://cdn.example/0/x"


async def test_the_key_stays_with_the_api(adapter: Any, wire: Any) -> None:
    files = announce(wire)
    put = wire.put(url__startswith=STORAGE).mock(return_value=httpx2.Response(200))
    await prepare(adapter, {"f": File(data=b"x")})
    assert files.calls[0].request.headers["authorization"] == "Bearer inf_secret"
    request = put.calls[0].request
    assert "authorization" not in request.headers
    assert "inf_secret" not in str(request.headers.raw) + str(request.url)
    assert not any(name.startswith("x-") for name in request.headers)


async def test_several_at_a_time(adapter: Any, wire: Any) -> None:
    announce(wire)
    together = asyncio.Barrier(4)  # each waits until four are there: one after the other would never end

    async def put(request: httpx2.Request) -> httpx2.Response:
        await together.wait()
        return httpx2.Response(200)

    wire.put(url__startswith=STORAGE).mock(side_effect=put)
    async with asyncio.timeout(60):
        await prepare(adapter, [File(data=bytes([n])) for n in range(4)])


async def test_upload_by_itself(adapter: Any, wire: Any) -> None:
    announce(wire)
    wire.put(url__startswith=STORAGE).mock(return_value=httpx2.Response(201))
    assert await adapter.upload(File(data=b"x", filename="n.txt")) == "https://cdn.example/0/n.txt"
    assert await adapter.files.upload() == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.Response(403, text="<Error>expired</Error>"), Rejected),
        (httpx2.Response(500), Unavailable),
        (httpx2.ConnectError("refused"), Unavailable),
        (httpx2.WriteTimeout("slow"), Unavailable),
    ],
)
async def test_storage_that_does_not_take_it(adapter: Any, wire: Any, answer: Any, kind: Any) -> None:
    announce(wire)
    how = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
    wire.put(url__startswith=STORAGE).mock(**how)
    with pytest.raises(kind) as caught:
        await prepare(adapter, [File(data=b"x"), File(data=b"y")])
    assert caught.value.backend == "hosted"
    assert caught.value.landed is False


@pytest.mark.parametrize(
    "told",
    [
        [],
        {},
        None,
        [{"uri": "u"}],
        [{"upload_url": "https://x.example"}],
        ["?"],
        [{"uri": "u", "upload_url": "https://x.example"}] * 2,
    ],
)
async def test_an_announcement_answered_badly(adapter: Any, wire: Any, told: Any) -> None:
    wire.post(f"{API}/files").mock(return_value=httpx2.Response(200, json={"data": told, "messages": []}))
    with pytest.raises(Unavailable):
        await prepare(adapter, File(data=b"x"))


@pytest.mark.parametrize(
    "address",
    ["not an address", "file:///etc/passwd", "ftp://x.example/", "https://", "http://x:99999/", "http://\n"],
)
async def test_an_upload_address_that_is_none(adapter: Any, wire: Any, address: str) -> None:
    told = [{"uri": "u", "upload_url": address}]
    wire.post(f"{API}/files").mock(return_value=httpx2.Response(200, json={"data": told, "messages": []}))
    with pytest.raises(Unavailable):
        await prepare(adapter, File(data=b"x"))


async def test_a_content_type_that_cannot_be_sent_is_nothing_of_the_backend(adapter: Any, wire: Any) -> None:
    """As Unavailable it would be tried again and again, at the cost of everybody's retries."""
    with pytest.raises(InvalidInput, match="content type"):
        await prepare(adapter, {"f": File(data=b"x", content_type="text/plain\nx-other: y")})
    assert not wire.calls


async def test_a_file_that_is_not_there(adapter: Any, wire: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nothing\.png"):
        await prepare(adapter, {"f": File(path=tmp_path / "nothing.png")})
    assert not wire.calls
