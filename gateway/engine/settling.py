"""Settling by hand: what an attempt cost that nobody knew the cost of, from evidence found elsewhere."""

from __future__ import annotations

from dataclasses import replace

from gateway.clock import Clock
from gateway.errors import CostOutcome, InvalidInput, RunTakenOver
from gateway.policy.budget import Accounting, Spend
from gateway.store.protocol import Store
from gateway.task import Attempt, Cost, Event, Run
from gateway.types import Money


async def settle_by_hand(
    store: Store,
    accounting: Accounting,
    clock: Clock,
    run_id: str,
    *,
    cost: Money | None,
    not_charged: bool,
    evidence: str,
    number: int | None,
) -> Run:
    """Write down what an attempt of a run cost, and book it in every budget that has held its reservation.

    Raises:
        RunNotFound: the store has no such run.
        InvalidInput: the run goes on, nothing is unknown of it, or the words contradict each other.
        NoRate: a budget holds its reservation, and the cost can't be told in the reporting currency.
    """
    told = _make_cost(cost, evidence, not_charged=not_charged)
    while True:
        run, fence = (claimed := await store.ledger.reopen(run_id)).run, claimed.fence
        attempt = _find_unknown(run, number)
        settled = replace(
            attempt,
            cost=replace(attempt.cost, settled=told.settled, outcome=told.outcome, evidence=told.evidence),
        )
        spends = _make_spends(accounting, settled, clock)
        what = "not charged" if told.settled is None else str(told.settled)
        events = await store.list_events(run.id)
        event = Event(
            kind="attempt",
            at=clock.now(),
            seq=events[-1].seq + 1 if events else 1,
            run_id=run.id,
            attempt=attempt.number,
            backend=attempt.backend,
            message=f"settled by hand: {what} ({evidence})",
        )
        changed = replace(run.with_attempt(settled), updated_at=clock.now())
        try:
            await _save(store, changed, settled, fence, event, spends)
        except RunTakenOver:
            continue  # somebody else settled just now: look at it anew
        return changed


async def _save(
    store: Store, run: Run, settled: Attempt, fence: int, event: Event, spends: list[Spend]
) -> None:
    """Write it in one change. A store writes the last attempt alone, so that an older one goes there once."""
    others = tuple(attempt for attempt in run.attempts if attempt.number != settled.number)
    await store.save(replace(run, attempts=(*others, settled)), fence=fence, events=[event], spends=spends)
    if settled is not run.attempts[-1]:
        await store.save(run, fence=fence)  # the row says again where the newest attempt is


def _make_cost(cost: Money | None, evidence: str, *, not_charged: bool) -> Cost:
    if (cost is None) is not not_charged:
        raise InvalidInput("say either what it cost or that it was not charged")
    if not evidence.strip():
        raise InvalidInput("evidence is empty: say where the cost was found, an invoice or a transaction")
    proof = {"from": "settled by hand", "told": evidence}
    if cost is None:
        return Cost(outcome=CostOutcome.NOT_CHARGED, evidence=proof)
    if cost.amount <= 0:
        raise InvalidInput(f"{cost} is no cost: say that it was not charged")
    return Cost(settled=cost, outcome=CostOutcome.CHARGED, evidence=proof)


def _find_unknown(run: Run, number: int | None) -> Attempt:
    """Return the attempt to settle. Raises InvalidInput."""
    unknown = [a for a in run.attempts if a.cost.outcome is CostOutcome.UNKNOWN or _lacks_price(a.cost)]
    if run.children and not unknown:
        raise InvalidInput(f"{run.id} has its costs in its copies: settle {' or '.join(run.children)}")
    if number is not None:
        unknown = [attempt for attempt in unknown if attempt.number == number]
    if not unknown:
        which = run.id if number is None else f"attempt {number} of {run.id}"
        raise InvalidInput(f"{which}: nothing to settle, what is to know of its cost is known")
    if len(unknown) > 1:
        numbers = ", ".join(str(attempt.number) for attempt in unknown)
        raise InvalidInput(f"{run.id} has several attempts of unknown cost: say which of {numbers}")
    return unknown[0]


def _lacks_price(cost: Cost) -> bool:
    return cost.outcome is CostOutcome.CHARGED and cost.settled is None


def _make_spends(accounting: Accounting, settled: Attempt, clock: Clock) -> list[Spend]:
    if settled.holds and settled.cost.settled is not None:
        accounting.rates.convert(settled.cost.settled, clock.now().date())  # or it would stay reserved
    return accounting.settle(settled, clock.now())
