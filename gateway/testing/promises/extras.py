from __future__ import annotations

from gateway.adapter import CancelOutcome, Feature
from gateway.errors import NotSupported
from gateway.lifecycle import Status
from gateway.task import Quote
from gateway.testing.case import (
    AnyAdapter,
    ConformanceCase,
    expect,
    follow,
    get_features,
    look,
    need,
    start,
)


class Extras:
    """What an adapter may leave out, and its end."""

    async def test_quote_matches_the_features(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A quote is there exactly if the features say so."""
        await _expect_supported(adapter, case, Feature.QUOTE, "quote")

    async def test_cancel_matches_the_features(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Cancelling is there exactly if the features say so."""
        await _expect_supported(adapter, case, Feature.CANCEL, "cancel")

    async def test_events_match_the_features(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Events are there exactly if the features have "events" or "stream"."""
        await _expect_supported(adapter, case, Feature.EVENTS, "events")

    async def test_accept_matches_the_features(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Accepting an answer is asked for exactly if the features say so."""
        if Feature.ACCEPT not in await get_features(adapter, case):
            await _expect_supported(adapter, case, Feature.ACCEPT, "accept")
            return
        handle = await start(adapter, case, case.good)
        ready = await follow(adapter, case, handle, until=lambda one: one.status is Status.UPLOADING)
        before = await case.count_accepted()
        with case.patience("accept"):
            envelope = await adapter.accept(handle, ready)
        expect(envelope.act == "accept", f"accept made an envelope to {envelope.act}")
        seen = (await look(adapter, case, handle)).get(handle)
        expect(seen is None or not seen.status.is_final, "preparing to accept did accept")
        with case.patience("submit"):
            await adapter.submit(envelope)
        last = await follow(adapter, case, handle, until=lambda one: one.status.is_final)
        expect(last.status is Status.COMPLETED, f"an accepted answer ended {last}")
        expect(await case.count_accepted() == before, "accepting started another job")

    async def test_quote_is_honest(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A quote never spends; its bound is not below its expectation and in the same asset."""
        features = await get_features(adapter, case)
        need(features & {Feature.QUOTE} or None, "adapter that quotes")
        before = await case.count_accepted()
        with case.patience("quote"):
            quote = await adapter.quote(case.good.task, case.good.target)
        expect(isinstance(quote, Quote), f"quote gave {quote!r}")
        expect(await case.count_accepted() == before, "quote submitted something")
        if quote.expected is not None and quote.upper is not None:
            expect(quote.expected.asset == quote.upper.asset, f"two assets in one quote: {quote}")
            expect(quote.expected <= quote.upper, f"the bound is below the expectation: {quote}")
        expect(Quote.model_validate_json(quote.model_dump_json()) == quote, "the quote loses in JSON")

    async def test_cancel_ends_a_job(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """A job that is cancelled in the middle ends CANCELLED; one that could not be stopped goes on."""
        slow = need(case.slow, "slow")
        need(await get_features(adapter, case) & {Feature.CANCEL} or None, "adapter that cancels")
        handle = await start(adapter, case, slow)
        with case.patience("cancel"):
            outcome = await adapter.cancel(handle)
        expect(isinstance(outcome, CancelOutcome), f"cancel gave {outcome!r}")
        if outcome is not CancelOutcome.TOO_LATE:
            last = await follow(adapter, case, handle)
            expect(last.status is Status.CANCELLED, f"after {outcome} the job ended {last.status.name}")

    async def test_cancel_comes_too_late(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Cancelling a job that has ended changes nothing and is no error."""
        need(await get_features(adapter, case) & {Feature.CANCEL} or None, "adapter that cancels")
        handle = await start(adapter, case, case.good)
        end = await follow(adapter, case, handle)
        with case.patience("cancel"):
            outcome = await adapter.cancel(handle)
        expect(outcome is CancelOutcome.TOO_LATE, f"the job has ended, but cancel says {outcome}")
        again = (await look(adapter, case, handle)).get(handle)
        expect(again == end, f"cancelling changed the end: {end} became {again}")

    async def test_aclose_twice(self, adapter: AnyAdapter, case: ConformanceCase) -> None:
        """Closing twice, used or not, is no error."""
        with case.patience("capabilities and aclose"):
            await adapter.capabilities()
            await adapter.aclose()
            await adapter.aclose()


async def _expect_supported(
    adapter: AnyAdapter, case: ConformanceCase, feature: Feature, operation: str
) -> None:
    features = await get_features(adapter, case)
    promised = {feature, Feature.STREAM} if feature is Feature.EVENTS else {feature}
    is_promised = bool(promised & features)
    handle = await start(adapter, case, case.good)
    end = await follow(adapter, case, handle)
    try:
        with case.patience(operation):
            if operation == "quote":
                await adapter.quote(case.good.task, case.good.target)
            elif operation == "cancel":
                await adapter.cancel(handle)
            elif operation == "accept":
                await adapter.accept(handle, end)
            else:
                _ = [event async for event in adapter.events(handle)]
    except NotSupported as error:
        expect(not is_promised, f"the features have {feature}, but {operation} raises {error!r}")
    else:
        expect(is_promised, f"the features lack {feature}, but {operation} does not raise NotSupported")
