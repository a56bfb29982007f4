"""What became of a request: landed, not landed, or nobody knows. On mocked answers, without sockets."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import httpx2
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendError, InDoubt, InvalidInput, Misbehaved, Rejected, Throttled, Unavailable
from gateway.http import Answer, HttpClient, encode_json, make_status_error, parse_json, parse_retry_after

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:4000"
NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def load_httpx() -> ModuleType:
    """Load the original httpx, though `httpx` is an alias of httpx2 in the tests."""
    import importlib
    import sys

    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "httpx"}
    finders = [f for f in sys.meta_path if type(f).__module__.split(".")[0] in {"httpx2", "_httpx2"}]
    for finder in finders:
        sys.meta_path.remove(finder)
    try:
        return importlib.import_module("httpx")
    finally:
        for name in list(sys.modules):
            if name.split(".")[0] == "httpx":
                del sys.modules[name]
        sys.modules.update(ours)
        sys.meta_path[:0] = finders


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient("node1", f"{URL}/", headers={"authorization": "Bearer secret"})
    yield client
    await client.aclose()


def list_errors(module: ModuleType) -> list[type[Exception]]:
    return [
        thing
        for name in dir(module)
        if inspect.isclass(thing := getattr(module, name)) and issubclass(thing, Exception)
    ]


def make_error(cls: type[Exception], module: ModuleType) -> Exception:
    request = module.Request("GET", URL)
    if cls.__name__ == "HTTPStatusError":
        broken: Exception = module.HTTPStatusError("words", request=request, response=module.Response(500))
        return broken
    return (
        cls()
        if cls.__name__ in {"ResponseNotRead", "RequestNotRead", "StreamClosed", "StreamConsumed"}
        else cls("words")
    )


NEVER_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
    "LocalProtocolError",
    "InvalidURL",
}
UNREADABLE = {"DecodingError", "TooManyRedirects"}
NOT_FROM_SENDING = {"CookieConflict", "HTTPStatusError"}  # raised by methods that gateway.http never calls


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize("cls", [c for c in list_errors(httpx2) if c.__name__ not in NOT_FROM_SENDING])
async def test_no_error_of_the_layer_below_leaks(cls: type[Exception], lands: bool) -> None:  # noqa: FBT001
    """A new exception class of httpx2 shows up here by itself."""
    await check_translation(cls, httpx2, lands=lands)


async def check_translation(cls: type[Exception], module: ModuleType, *, lands: bool) -> None:
    error = make_error(cls, module)

    class Broken:
        def build_request(self, *args: Any, **words: Any) -> Any:
            return module.Request("POST", URL)

        async def send(self, *args: Any, **words: Any) -> Any:
            raise error

    client = HttpClient("node1", URL, client=Broken())
    for work in (
        client.request("POST", "/x", lands=lands),
        client.open_stream("POST", "/x", lands=lands),
        *([] if lands else [client.put_elsewhere(URL, b"", content_type="text/plain")]),
    ):
        with pytest.raises(BackendError) as caught:
            await work
        assert caught.value.backend == "node1"
        assert caught.value.__cause__ is error
        assert type(caught.value) is get_expected(cls, lands=lands)


def get_expected(cls: type[Exception], *, lands: bool) -> type[BackendError]:
    names = {base.__name__ for base in cls.__mro__}
    if names & NEVER_SENT:
        return Unavailable
    if names & UNREADABLE:
        return Misbehaved
    return InDoubt if lands else Unavailable


@pytest.mark.parametrize("lands", [True, False])
async def test_no_error_of_an_injected_httpx_leaks(lands: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    import sys

    httpx = load_httpx()
    assert httpx.__name__ == "httpx"
    assert httpx.HTTPError is not httpx2.HTTPError
    monkeypatch.setitem(sys.modules, "httpx", httpx)
    found = [cls for cls in list_errors(httpx) if cls.__name__ not in NOT_FROM_SENDING]
    assert len(found) > 20
    for cls in found:
        await check_translation(cls, httpx, lands=lands)


async def test_the_lists_of_names_are_names(client: HttpClient) -> None:
    from gateway.http import client as http

    for names in (http._NEVER_SENT, http._STALE_SOCKET, http._UNREADABLE):
        assert all(hasattr(httpx2, name) for name in names)
    assert not http._NEVER_SENT & http._STALE_SOCKET


@pytest.mark.parametrize(
    ("status", "lands", "kind"),
    [
        (429, True, Throttled),
        (429, False, Throttled),
        (503, True, Unavailable),
        (503, False, Unavailable),
        (500, True, InDoubt),
        (500, False, Unavailable),
        (502, True, InDoubt),
        (504, True, InDoubt),
        (504, False, Unavailable),
        (599, True, InDoubt),
        (400, True, Rejected),
        (401, True, Rejected),
        (404, False, Rejected),
        (412, True, Rejected),
        (301, True, Rejected),
        (307, True, Rejected),
    ],
)
async def test_statuses(status: int, lands: bool, kind: type[BackendError]) -> None:  # noqa: FBT001
    answer = Answer(status, {"retry-after": "7"}, b"")
    error = make_status_error(
        answer, "POST /x", backend="node1", lands=lands, code="c", detail={"a": 1}, job_id="j"
    )
    assert type(error) is kind
    assert str(error) == f"node1: POST /x: HTTP {status}"
    assert (error.http_status, error.code, error.detail, error.job_id) == (status, "c", {"a": 1}, "j")
    assert error.retry_after == timedelta(seconds=7)
    said = make_status_error(answer, "x", backend="node1", lands=lands, message="it said so")
    assert str(said) == "node1: it said so"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("120", 120),
        (" 1.5 ", 1.5),
        ("-3", 0),
        ("Tue, 01 Jan 2030 12:00:30 GMT", 30),
        ("Tue, 01 Jan 2030 14:00:30 +0200", 30),
        ("Tue, 01 Jan 2030 12:00:30", 30),
        ("Tuesday, 01-Jan-30 12:00:30 GMT", 30),
        ("Tue Jan  1 12:00:30 2030", 30),
        ("Mon, 31 Dec 2029 12:00:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("Infinity", None),
        ("1e999", None),
        ("9" * 400, None),
        ("Tue, 01 Jan 99999 12:00:00 GMT", None),
        ("Tue, 01 Jan 2030 12:00:00 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    found = parse_retry_after(value, now=NOW)
    assert found == (None if seconds is None else timedelta(seconds=seconds))


@given(st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [+-]?\d+", fullmatch=True))
def test_no_retry_after_breaks_its_reader(value: str) -> None:
    found = parse_retry_after(value, now=NOW)
    assert found is None or found >= timedelta(0)


text = st.text(st.characters(codec="utf-8"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    )
)
def test_json_round_trips(value: Any) -> None:
    assert parse_json(encode_json(value)) == value
    assert json.loads(encode_json(value)) == value


def test_json_is_lenient_where_containers_are() -> None:
    assert repr(parse_json(b"[NaN, -Infinity, 1e400, 123456789012345678901234567890]")) == (
        "[nan, -inf, inf, 123456789012345678901234567890]"
    )
    for garbage in (b"", b"<html>", b'{"a":', b"\xff", b"[1] 2", b'"\\ud800"'):
        with pytest.raises(ValueError, match=r"."):
            parse_json(garbage)


@pytest.mark.parametrize("value", [object(), {"a": {1: object()}}, b"\xff", "\ud800"])
def test_what_is_no_json_is_not_sent(value: object) -> None:
    with pytest.raises(InvalidInput, match="this is not JSON"):
        encode_json(value)


@respx.mock
async def test_a_request_is_made_of_what_was_given(client: HttpClient) -> None:
    route = respx.post(f"{URL}/api/jobs").respond(201, json={"id": 1}, headers={"X-Word": "A"})
    answer = await client.request(
        "POST",
        "/api/jobs",
        lands=True,
        json={"a": [1]},
        params=[("id", "1"), ("id", "2")],
        headers={"x-more": "m"},
    )
    assert (answer.status, answer.headers["x-word"], parse_json(answer.body)) == (201, "A", {"id": 1})
    assert answer.is_json
    request = route.calls[0].request
    assert str(request.url) == f"{URL}/api/jobs?id=1&id=2"
    assert parse_json(request.content) == {"a": [1]}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["x-more"] == "m"


@respx.mock
async def test_bytes_are_sent_as_they_stand_and_nothing_as_nothing(client: HttpClient) -> None:
    route = respx.post(f"{URL}/x").respond(200)
    await client.request("POST", "/x", lands=True, json=b'{"a":  1}')
    await client.request("POST", "/x", lands=True)
    assert [call.request.content for call in route.calls] == [b'{"a":  1}', b""]
    assert "content-type" not in route.calls[1].request.headers


@respx.mock
async def test_a_redirect_is_an_answer_and_not_followed(client: HttpClient) -> None:
    elsewhere = respx.route(host="elsewhere.test").respond(200)
    respx.route(host="127.0.0.1").respond(307, headers={"location": "http://elsewhere.test/"})
    injected = httpx2.AsyncClient(follow_redirects=True)
    for one in (client, HttpClient("node1", URL, headers={"x-key": "secret"}, client=injected)):
        assert (await one.request("POST", "/x", lands=True, json={})).status == 307
        assert (await one.put_elsewhere(f"{URL}/up", b"", content_type="text/plain")).status == 307
        async with one.stream("POST", "/x", lands=True) as answer:
            assert answer.status == 307
    await injected.aclose()
    assert not elsewhere.called


@respx.mock
async def test_an_upload_carries_nothing_of_ours(client: HttpClient) -> None:
    route = respx.put("https://bucket.test/key?signature=s").respond(200)
    injected = httpx2.AsyncClient(
        headers={"x-api-key": "secret", "Authorization": "Bearer secret"},
        cookies={"session": "secret"},
        auth=("user", "secret"),
    )
    for one in (client, HttpClient("node1", URL, headers={"x-api-key": "secret"}, client=injected)):
        await one.put_elsewhere("https://bucket.test/key?signature=s", b"bytes", content_type="image/png")
    await injected.aclose()
    for call in route.calls:
        told = {name.lower() for name in call.request.headers}
        assert told <= {
            "host",
            "content-type",
            "content-length",
            "user-agent",
            "accept",
            "accept-encoding",
            "connection",
        }
        assert call.request.headers["content-type"] == "image/png"
        assert call.request.content == b"bytes"
        assert not any("secret" in value for value in call.request.headers.values())


@pytest.mark.parametrize("path", ["/\x00", "/a\nb", "/" + "x" * 70_000])
async def test_an_address_that_is_none_was_never_sent(client: HttpClient, path: str) -> None:
    """A server's garbage may become a part of a path."""
    with pytest.raises(Unavailable, match="InvalidURL"):
        await client.request("POST", path, lands=True)
    with pytest.raises(Unavailable, match="InvalidURL"):
        await client.open_stream("GET", path, lands=False)


@respx.mock
async def test_a_closed_client_opens_again(client: HttpClient) -> None:
    respx.get(f"{URL}/x").respond(200)
    await client.request("GET", "/x", lands=False)
    await client.aclose()
    await client.aclose()
    assert (await client.request("GET", "/x", lands=False)).status == 200


async def test_an_injected_client_is_used_and_not_closed() -> None:
    httpx = load_httpx()

    def answer(module: ModuleType) -> Callable[[Any], Any]:
        return lambda request: module.Response(200, json={"path": request.url.path})

    for module in (httpx, httpx2):
        injected = module.AsyncClient(transport=module.MockTransport(answer(module)))
        client = HttpClient("node1", URL, client=injected)
        found = await client.request("POST", "/x", lands=True, json={"a": 1}, timeout_seconds=3)
        assert parse_json(found.body) == {"path": "/x"}
        async with client.stream("GET", "/y", lands=False) as stream:
            assert parse_json((await stream.aread()).body) == {"path": "/y"}
        assert (await client.put_elsewhere(f"{URL}/z", b"b", content_type="text/plain")).status == 200
        await client.aclose()
        assert not injected.is_closed
        await injected.aclose()


@pytest.mark.parametrize(
    ("kind", "is_json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("text/html", False),
        ("application/jsonlines", False),
        ("", False),
    ],
)
def test_what_claims_to_be_json(kind: str, is_json: bool) -> None:  # noqa: FBT001
    assert Answer(200, {"content-type": kind}, b"").is_json is is_json
    assert not Answer(200, {}, b"{}").is_json
