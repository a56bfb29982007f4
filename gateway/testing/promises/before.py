from __future__ import annotations

from copy import deepcopy

from pydantic import BaseModel

from gateway.adapter import Capabilities, Feature
from gateway.errors import BackendError, InvalidInput, Rejected, Unavailable
from gateway.task import Envelope
from gateway.testing.case import (
    AnyAdapter,
    ConformanceCase,
    Sample,
    down,
    expect,
    expect_named,
    look,
    make_attempt_id,
    need,
    prepare,
    start,
)


class BeforeSubmit:
    """Capabilities, preparation, and what is refused."""

    async def test_types_are_strict(self, adapter: AnyAdapter) -> None:
        """Configuration and target are pydantic models that know every word: a misspelt one is an error."""
        for kind in (adapter.config_type, adapter.target_type):
            expect(issubclass(kind, BaseModel), f"{kind.__name__} is not a pydantic model")
            expect(kind.model_config.get("extra") == "forbid", f"{kind.__name__} needs extra='forbid'")

    async def test_capabilities_are_facts(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A working backend is healthy, and says so quickly, in the seam's own words."""
        began = adapter.clock.monotonic()
        with case.patience("capabilities"):
            found = await adapter.capabilities()
        took = adapter.clock.monotonic() - began
        expect(isinstance(found, Capabilities), f"capabilities gave {found!r}")
        expect(found.healthy, f"the backend works, but healthy is False: {found.reason}")
        expect(took <= case.quick_seconds, f"capabilities took {took} s")
        expect(all(isinstance(f, Feature) for f in found.features), f"not all Features: {found.features}")
        expect(found.poll_many >= 1, "poll_many must be at least 1")

    async def test_down_is_not_healthy(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A backend that is down gives healthy=False with a reason, not an error, and recovers."""
        async with down(case):
            with case.patience("capabilities"):
                gone = await adapter.capabilities()
        with case.patience("capabilities"):
            back = await adapter.capabilities()
        expect(not gone.healthy, "the backend is down, but healthy is True")
        expect(bool(gone.reason), "a backend that is not healthy needs a reason")
        expect(back.healthy, f"the backend is back, but healthy is False: {back.reason}")

    async def test_down_refuses_a_submission(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """To a backend that can't be reached nothing lands: Unavailable, so that another may be asked."""
        envelope = await prepare(adapter, case, case.good)
        before = await case.count_accepted()
        async with down(case):
            try:
                with case.patience("submit"):
                    await adapter.submit(envelope)
            except BackendError as error:
                expect(isinstance(error, Unavailable), f"down must be Unavailable, not {error!r}")
                expect_named(adapter, error)
            else:
                raise AssertionError("submit to a backend that is down gave a handle")
        expect(await case.count_accepted() == before, "a refused submission landed")

    async def test_down_gives_no_news(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """While a backend is down no job of it is lost or failed: poll raises, or has no news."""
        handle = await start(adapter, case, case.good)
        async with down(case):
            try:
                news = await look(adapter, case, handle)
                expect(not news, f"the backend is down, but poll has news: {news}")
            except BackendError as error:
                expect_named(adapter, error)

    async def test_prepare_never_spends(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Nothing is submitted before `submit`."""
        before = await case.count_accepted()
        await prepare(adapter, case, case.good)
        expect(await case.count_accepted() == before, "prepare submitted something")

    async def test_envelope_is_whole(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """An envelope says whose it is, and survives the store."""
        attempt_id = make_attempt_id()
        with case.patience("prepare"):
            envelope = await adapter.prepare(case.good.task, case.good.target, attempt_id=attempt_id)
        expect(envelope.attempt_id == attempt_id, f"the envelope is of attempt {envelope.attempt_id}")
        expect(envelope.backend == adapter.name, f"the envelope is for {envelope.backend!r}")
        expect(envelope.act == "submit", f"prepare made an envelope to {envelope.act}")
        again = Envelope.model_validate_json(envelope.model_dump_json())
        expect(again == envelope, "the envelope does not survive JSON")

    async def test_no_secret_leaks(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """What is stored or printed holds no secret: envelope, handle, configuration."""
        secrets = need(case.secrets or None, "secrets")
        envelope = await prepare(adapter, case, case.good)
        with case.patience("submit"):
            handle = await adapter.submit(envelope)
        told = {
            "the envelope": envelope.model_dump_json().decode(),
            "the handle": handle.model_dump_json().decode(),
            "the configuration's repr": repr(adapter.config),
            "the adapter's repr": repr(adapter),
        }
        for place, text in told.items():
            expect(not any(secret in text for secret in secrets), f"a secret is in {place}")

    async def test_prepare_is_repeatable(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """The same attempt prepared twice is the same act; the task is left as it was."""
        attempt_id, task = make_attempt_id(), deepcopy(case.good.task)
        payloads = []
        for _ in range(2):
            with case.patience("prepare"):
                envelope = await adapter.prepare(case.good.task, case.good.target, attempt_id=attempt_id)
            payloads.append({k: v for k, v in envelope.payload.items() if k not in case.volatile})
        expect(payloads[0] == payloads[1], f"two preparations differ: {payloads[0]} and {payloads[1]}")
        expect(case.good.task == task, "prepare changed the task's input")

    async def test_bad_target_is_refused(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A target that can't be meant is Rejected or InvalidInput in `prepare`; nothing is submitted."""
        before = await case.count_accepted()
        misspelt = {**case.good.target, "no_such_word": 1}
        for target in (case.bad_target, misspelt):
            try:
                await prepare(adapter, case, Sample(task=case.good.task, target=target))
            except InvalidInput as error:
                expect(bool(str(error)), "InvalidInput has no message")
            except Rejected as error:
                expect_named(adapter, error)
            else:
                raise AssertionError(f"prepare took the target {dict(target)}")
        expect(await case.count_accepted() == before, "something was submitted")

    async def test_refusal_is_rejected(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """What the backend refuses, in `prepare` or in `submit`, is Rejected and did not land."""
        refused = need(case.refused, "refused")
        before = await case.count_accepted()
        try:
            await start(adapter, case, refused)
        except BackendError as error:
            expect(isinstance(error, Rejected), f"a refusal must be Rejected, not {error!r}")
            expect_named(adapter, error)
        else:
            raise AssertionError("the backend refuses this, but submit gave a handle")
        expect(await case.count_accepted() == before, "a refused submission landed")
