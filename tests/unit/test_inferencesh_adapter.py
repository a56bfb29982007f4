"""The adapter's requests and its reading of the answers, on a mocked wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import respx

from gateway.adapter import CancelOutcome, Feature
from gateway.errors import BackendError, InDoubt, InvalidInput, Misbehaved, Rejected, Throttled, Unavailable
from gateway.lifecycle import Status
from gateway.task import Envelope, FailureKind, Handle, Task
from gateway.testing.clock import FakeClock
from gateway.types import AttemptId, Money
from gateway_inferencesh import (
    InferenceshAdapter,
    InferenceshConfig,
    RequirementsNotMet,
    SessionExpired,
)
from gateway_inferencesh.looks import POLL_AT_ONCE

pytestmark = pytest.mark.anyio

API = "https://api.inference.sh"
KEY = "inf_secret"
APP: dict[str, Any] = {"app": "acme/chat"}


@pytest.fixture
async def adapter() -> AsyncIterator[InferenceshAdapter]:
    config = InferenceshConfig.model_validate({"api_key": KEY})
    adapter = InferenceshAdapter("hosted", config, clock=FakeClock())
    yield adapter
    await adapter.aclose()


@pytest.fixture
def wire() -> Any:
    with respx.mock(base_url=API, assert_all_called=False) as router:
        yield router


async def prepare(adapter: InferenceshAdapter, input: Any, **target: Any) -> Envelope:
    task = Task(input=input)
    return await adapter.prepare(task, target or APP, attempt_id=AttemptId("a1"))


def ok(data: Any) -> httpx2.Response:
    return httpx2.Response(200, json={"data": data, "messages": []})


def refuse(status: int, code: str, **headers: str) -> httpx2.Response:
    body = {"type": f"{API}/errors/{code}", "title": "t", "status": status, "detail": "d"}
    kind = {"content-type": "application/problem+json"}
    return httpx2.Response(status, content=json.dumps(body).encode(), headers=kind | headers)


def handle(job_id: str = "t1") -> Handle:
    return Handle("hosted", job_id)


class TestSubmit:
    async def test_the_payload_is_the_body_to_the_letter(self, adapter: Any, wire: Any) -> None:
        route = wire.post("/apps/run").mock(return_value=ok({"id": "t1", "status": 1}))
        envelope = await prepare(
            adapter, {"text": "hi"}, app="acme/chat:f", setup={"m": 1}, session="new", session_timeout=9
        )
        assert envelope.payload == {
            "body": {
                "app": "acme/chat:f",
                "setup": {"m": 1},
                "session": "new",
                "session_timeout": 9,
                "input": {"text": "hi"},
            }
        }
        found = await adapter.submit(Envelope.model_validate_json(envelope.model_dump_json()))
        assert (found.backend, found.job_id) == ("hosted", "t1")
        request = route.calls[0].request
        assert json.loads(request.content) == envelope.payload["body"]
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["content-type"] == "application/json"
        assert "x-api-version" not in request.headers
        assert route.call_count == 1

    async def test_input_is_always_there(self, adapter: Any) -> None:
        assert (await prepare(adapter, None)).payload["body"] == {"app": "acme/chat", "input": None}

    @pytest.mark.parametrize(
        "text",
        ["/etc/hostname", "data:text/plain;base64,aGVsbG8=", "d41d8cd98f00b204e9800998ecf8427e", "A" * 64],
    )
    async def test_no_string_is_ever_uploaded(self, adapter: Any, wire: Any, text: str) -> None:
        envelope = await prepare(adapter, {"a": text, "b": [text]})
        assert envelope.payload["body"]["input"] == {"a": text, "b": [text]}
        assert not wire.calls

    @pytest.mark.parametrize("status", [10, 11, 12, 13, "rejected"])
    async def test_a_task_that_has_ended_is_a_handle(self, adapter: Any, wire: Any, status: Any) -> None:
        wire.post("/apps/run").mock(return_value=ok({"id": "t1", "status": status, "error": "e"}))
        assert (await adapter.submit(await prepare(adapter, {}))).job_id == "t1"

    async def test_the_session_and_warnings_are_kept(self, adapter: Any, wire: Any) -> None:
        told = {"level": "warning", "code": "c", "message": "app is deprecated"}
        answer = {"data": {"id": "t1", "session_id": "sess_1"}, "messages": [told]}
        wire.post("/apps/run").mock(return_value=httpx2.Response(200, json=answer))
        detail = (await adapter.submit(await prepare(adapter, {}))).detail
        assert detail == {"attempt_id": "a1", "session_id": "sess_1", "messages": [told]}

    @pytest.mark.parametrize(
        "answer",
        [
            httpx2.Response(200, text="<html>hello</html>", headers={"content-type": "text/html"}),
            httpx2.Response(200, text='{"id": "t', headers={"content-type": "application/json"}),
            httpx2.Response(204),
            httpx2.Response(200, json={"data": None, "messages": []}),
            httpx2.Response(200, json={"data": {"id": ""}, "messages": []}),
            httpx2.Response(200, json={"data": {"id": 7}, "messages": []}),
            httpx2.Response(200, json=[{"id": "t1"}]),
            httpx2.Response(200, json={"success": False}),
            refuse(500, "internal_error"),
            refuse(502, "bad_gateway"),
            refuse(408, "timeout"),
            httpx2.ReadTimeout("slow"),
            httpx2.RemoteProtocolError("gone"),
            httpx2.ReadError("reset"),
            httpx2.WriteError("reset"),
            httpx2.DecodingError("bad gzip"),
        ],
    )
    async def test_what_may_have_landed_is_in_doubt(self, adapter: Any, wire: Any, answer: Any) -> None:
        how = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
        route = wire.post("/apps/run").mock(**how)
        with pytest.raises(InDoubt) as caught:
            await adapter.submit(await prepare(adapter, {}))
        assert caught.value.backend == "hosted"
        assert route.call_count == 1

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (httpx2.ConnectError("refused"), Unavailable),
            (httpx2.ConnectTimeout("slow"), Unavailable),
            (refuse(503, "app_maintenance"), Unavailable),
            (refuse(429, "rate_limited"), Throttled),
            (refuse(400, "validation_error"), Rejected),
            (refuse(401, "unauthorized"), Rejected),
            (refuse(410, "SESSION_EXPIRED"), SessionExpired),
        ],
    )
    async def test_what_did_not_land(self, adapter: Any, wire: Any, answer: Any, kind: Any) -> None:
        how = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
        route = wire.post("/apps/run").mock(**how)
        with pytest.raises(kind) as caught:
            await adapter.submit(await prepare(adapter, {}))
        assert caught.value.landed is False
        assert route.call_count == 1

    async def test_a_wait_is_passed_on(self, adapter: Any, wire: Any) -> None:
        answer = refuse(503, "app_maintenance", **{"retry-after": "30"})
        wire.post("/apps/run").mock(return_value=answer)
        with pytest.raises(Unavailable) as caught:
            await adapter.submit(await prepare(adapter, {}))
        assert caught.value.retry_after == timedelta(seconds=30)
        assert caught.value.code == "app_maintenance"

    async def test_requirements(self, adapter: Any, wire: Any) -> None:
        item = {"type": "secret", "key": "TOKEN", "message": "missing"}
        wire.post("/apps/run").mock(
            return_value=httpx2.Response(412, json={"satisfied": False, "errors": [item]})
        )
        with pytest.raises(RequirementsNotMet, match="secret TOKEN") as caught:
            await adapter.submit(await prepare(adapter, {}))
        assert caught.value.missing[0].key == "TOKEN"

    async def test_input_that_is_not_json_is_never_sent(self, adapter: Any, wire: Any) -> None:
        route = wire.post("/apps/run")
        with pytest.raises(InvalidInput):
            await adapter.submit(await prepare(adapter, {"x": object()}))
        assert not route.called


class TestPoll:
    async def test_light_until_it_has_ended(self, adapter: Any, wire: Any) -> None:
        looks = [ok({"id": "t1", "status": status}) for status in (2, "running", 10)]
        light = wire.get("/tasks/t1/status").mock(side_effect=looks)
        whole = wire.get("/tasks/t1").mock(return_value=ok({"id": "t1", "status": 10, "output": {"a": 1}}))
        statuses = [(await adapter.poll([handle()]))[handle()].status for _ in range(2)]
        assert statuses == [Status.QUEUED, Status.RUNNING]
        assert not whole.called
        snapshot = (await adapter.poll([handle()]))[handle()]
        assert (snapshot.status, snapshot.output) == (Status.COMPLETED, {"a": 1})
        assert (light.call_count, whole.call_count) == (3, 1)

    async def test_a_forgotten_task_is_lost(self, adapter: Any, wire: Any) -> None:
        wire.get("/tasks/t1/status").mock(return_value=refuse(404, "not_found"))
        wire.get("/tasks/t1").mock(return_value=refuse(404, "not_found"))
        snapshot = (await adapter.poll([handle()]))[handle()]
        assert snapshot.failure is not None
        assert (snapshot.status, snapshot.failure.kind) == (Status.FAILED, FailureKind.LOST)
        assert snapshot.failure.job_id == "t1"

    async def test_a_missing_light_route_is_not_a_lost_task(self, adapter: Any, wire: Any) -> None:
        wire.get("/tasks/t1/status").mock(return_value=refuse(404, "not_found"))
        wire.get("/tasks/t1").mock(return_value=ok({"id": "t1", "status": 7}))
        assert (await adapter.poll([handle()]))[handle()].status is Status.RUNNING

    @pytest.mark.parametrize("status", [0, 77, "dreaming", None])
    async def test_an_unheard_of_status_is_no_news(self, adapter: Any, wire: Any, status: Any) -> None:
        wire.get("/tasks/t1/status").mock(return_value=ok({"id": "t1", "status": status}))
        assert await adapter.poll([handle()]) == {}

    async def test_one_failure_spoils_nothing(self, adapter: Any, wire: Any) -> None:
        wire.get("/tasks/t1/status").mock(side_effect=httpx2.ReadTimeout("slow"))
        wire.get("/tasks/t2/status").mock(return_value=ok({"status": 7}))
        wire.get("/tasks/t3/status").mock(return_value=refuse(500, "internal_error"))
        wire.get("/tasks/t4/status").mock(return_value=httpx2.Response(200, text="hello"))
        news = await adapter.poll([handle(f"t{n}") for n in range(1, 5)])
        assert set(news) == {handle("t2")}

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (refuse(500, "internal_error"), Unavailable),
            (httpx2.Response(200, text="<html>"), Misbehaved),
            (refuse(401, "unauthorized"), Rejected),
        ],
    )
    async def test_no_news_of_any_is_an_error(self, adapter: Any, wire: Any, answer: Any, kind: Any) -> None:
        wire.route().mock(return_value=answer)
        with pytest.raises(kind) as caught:
            await adapter.poll([handle(), handle("t2")])
        assert caught.value.backend == "hosted"
        assert caught.value.job_id in ("t1", "t2")

    async def test_throttled_only_if_nothing_else_came(self, adapter: Any, wire: Any) -> None:
        busy = refuse(429, "rate_limited", **{"retry-after": "3"})
        wire.get("/tasks/t1/status").mock(return_value=ok({"status": 7}))
        wire.get("/tasks/t2/status").mock(return_value=busy)
        assert set(await adapter.poll([handle(), handle("t2")])) == {handle()}
        with pytest.raises(Throttled) as caught:
            await adapter.poll([handle("t2")])
        assert caught.value.retry_after == timedelta(seconds=3)

    async def test_a_throttled_poll_asks_no_further(self, adapter: Any, wire: Any) -> None:
        route = wire.route().mock(return_value=refuse(429, "rate_limited"))
        with pytest.raises(Throttled):
            await adapter.poll([handle(f"t{n}") for n in range(60)])
        assert route.call_count <= POLL_AT_ONCE

    async def test_many_are_asked_together_but_not_all_at_once(self, adapter: Any, wire: Any) -> None:
        now = most = 0
        full = asyncio.Event()

        async def answer(request: httpx2.Request) -> httpx2.Response:
            nonlocal now, most
            now += 1
            most = max(most, now)
            if now == POLL_AT_ONCE:
                full.set()
            if not full.is_set():
                await full.wait()
            await asyncio.sleep(0.002)
            now -= 1
            return ok({"status": 7})

        wire.route().mock(side_effect=answer)
        news = await adapter.poll([handle(f"t{n}") for n in range(60)])
        assert len(news) == 60
        assert most == POLL_AT_ONCE

    async def test_no_handles_no_requests(self, adapter: Any, wire: Any) -> None:
        assert await adapter.poll([]) == {}
        assert not wire.calls

    async def test_an_id_stays_in_its_place(self, adapter: Any, wire: Any) -> None:
        route = wire.route().mock(return_value=ok({"status": 7}))
        await adapter.poll([handle("../apps?x=1")])
        assert route.calls[0].request.url.raw_path == b"/tasks/..%2Fapps%3Fx%3D1/status"


class TestCapabilities:
    async def test_healthy(self, adapter: Any, wire: Any) -> None:
        wire.get("/billing/balance").mock(return_value=ok({"balance": 5}))
        found = await adapter.capabilities()
        assert found.healthy
        assert found.features == {Feature.EVENTS, Feature.STREAM, Feature.CANCEL, Feature.QUOTE}
        assert found.detail == {"balance_microcents": 5}

    @pytest.mark.parametrize("answer", [refuse(403, "insufficient_scope"), refuse(404, "not_found")])
    async def test_a_narrow_key_asks_for_a_task(self, adapter: Any, wire: Any, answer: Any) -> None:
        wire.get("/billing/balance").mock(return_value=answer)
        route = wire.post("/tasks/list").mock(return_value=ok({"items": []}))
        assert (await adapter.capabilities()).healthy
        assert json.loads(route.calls[0].request.content) == {"limit": 1}

    async def test_a_key_that_may_only_run(self, adapter: Any, wire: Any) -> None:
        wire.route().mock(return_value=refuse(403, "insufficient_scope"))
        found = await adapter.capabilities()
        assert found.healthy
        assert found.reason is not None

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (refuse(401, "unauthorized"), "the API key is refused"),
            (refuse(403, "account_banned"), "account_banned"),
            (refuse(500, "internal_error"), "internal_error"),
            (refuse(429, "rate_limited"), "rate_limited"),
            (refuse(404, "not_found"), "not_found"),
            (httpx2.Response(200, text="<html>"), "not JSON"),
            (httpx2.ConnectError("refused"), "can't be reached"),
        ],
    )
    async def test_not_healthy(self, adapter: Any, wire: Any, answer: Any, reason: str) -> None:
        how = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
        wire.route().mock(**how)
        found = await adapter.capabilities()
        assert not found.healthy
        assert reason in (found.reason or "")


class TestCancel:
    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (8, CancelOutcome.REQUESTED),
            (7, CancelOutcome.REQUESTED),
            (0, CancelOutcome.REQUESTED),
            (12, CancelOutcome.CANCELLED),
            (10, CancelOutcome.TOO_LATE),
        ],
    )
    async def test_what_the_status_says_then(
        self, adapter: Any, wire: Any, status: int, outcome: CancelOutcome
    ) -> None:
        route = wire.post("/tasks/t1/cancel").mock(return_value=httpx2.Response(204))
        wire.get("/tasks/t1/status").mock(return_value=ok({"status": status}))
        assert await adapter.cancel(handle()) is outcome
        assert json.loads(route.calls[0].request.content) == {}

    async def test_force(self, adapter: Any, wire: Any) -> None:
        route = wire.post("/tasks/t1/cancel").mock(return_value=httpx2.Response(204))
        wire.get("/tasks/t1/status").mock(return_value=refuse(500, "internal_error"))
        assert await adapter.cancel(handle(), force=True) is CancelOutcome.REQUESTED
        assert json.loads(route.calls[0].request.content) == {"force": True}

    @pytest.mark.parametrize("answer", [refuse(409, "invalid_transition"), refuse(404, "not_found")])
    async def test_too_late(self, adapter: Any, wire: Any, answer: Any) -> None:
        wire.post("/tasks/t1/cancel").mock(return_value=answer)
        assert await adapter.cancel(handle()) is CancelOutcome.TOO_LATE

    async def test_refused(self, adapter: Any, wire: Any) -> None:
        wire.post("/tasks/t1/cancel").mock(return_value=refuse(403, "insufficient_scope"))
        with pytest.raises(BackendError) as caught:
            await adapter.cancel(handle())
        assert caught.value.job_id == "t1"


class TestQuote:
    async def test_the_app_is_asked_for_once(self, adapter: Any, wire: Any) -> None:
        app = wire.get("/apps/acme/chat").mock(return_value=ok({"id": "app_1"}))
        estimate = wire.post("/store/apps/app_1/estimate").mock(
            return_value=ok({"confidence": "exact", "microcents": 200_000})
        )
        for _ in range(2):
            quote = await adapter.quote(Task(input={"n": 1}), {"app": "acme/chat@1a2b:f"})
        assert quote.upper == Money.parse("0.002 USD")
        assert app.call_count == 1
        assert json.loads(estimate.calls[0].request.content) == {"input": {"n": 1}, "function": "f"}

    async def test_no_estimate_is_an_unknown_price(self, adapter: Any, wire: Any) -> None:
        wire.post("/store/apps/app_1/estimate").mock(return_value=refuse(404, "not_found"))
        quote = await adapter.quote(Task(), {"app_id": "app_1"})
        assert (quote.confidence, quote.upper) == ("unknown", None)

    async def test_no_such_app(self, adapter: Any, wire: Any) -> None:
        wire.get("/apps/acme/chat").mock(return_value=refuse(404, "not_found"))
        with pytest.raises(Rejected):
            await adapter.quote(Task(), APP)
