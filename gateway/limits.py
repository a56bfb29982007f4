"""What a run may cost, take and try: set per task, per model and for the whole gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from gateway.types import Money
from gateway.value import Value

OnDoubt = Literal["wait", "fail", "resubmit"]
OnFailed = Literal["stop", "next"]
Sort = Literal["balanced", "cheapest", "fastest", "reliable"]
Agree = Literal["exact", "numeric"]
WhenAllOpen = Literal["fail", "wait"]
Explore = Literal["free", "cheaper", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Value):
    """What a run may cost, take and try. None means: as the model says, then as the gateway says.

    Attributes:
        only: backends that may be used; None for all.
        ignore: backends that may not be used.
        order: backends to try first, in that order.
        require: features that the backend must have ("stream", "cancel", "proof", ...).
        max_cost: the most that one attempt may cost by its quote; without a quote the candidate is refused.
        deadline: from the acceptance of the run to its end.
        max_attempts: counts every attempt, at whatever backend.
        on_doubt: what to do when nobody knows whether a submission landed: ask on ("wait"), end the run
            ("fail"), or submit again ("resubmit", needs a max_cost that covers both).
        on_failed: after a job failed that had been accepted: "stop", or try the "next" candidate.
        doubt_wait: how long "wait" asks on where there is no deadline.
        sort: how to rank the candidates, where `backend=` does not say it.
        weights: backend -> a factor above 0; among equals the greater comes first.
        value_of_time: what an hour of waiting is worth: "balanced" trades price against latency with it.
        idempotent: running the task twice does no harm; allows hedging at its price.
        hedge: run it at so many backends at once and take the first success.
        quorum: (k, n): run it at n backends and take the answer that k agree on.
        agree: what counts as agreement: the same JSON ("exact"), or numbers within 1e-6 ("numeric").
        explore: when a backend that was never tried goes before one that was: where it is "free", where it is
            "cheaper" than what a good result costs elsewhere, "always" (one job at a time), or "never".
        when_all_open: when every candidate's breaker is open: "fail" at once, or "wait" for the first.
    """

    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    max_cost: Money | None = None
    deadline: timedelta | None = None
    max_attempts: int | None = None
    on_doubt: OnDoubt | None = None
    on_failed: OnFailed | None = None
    doubt_wait: timedelta | None = None
    sort: Sort | None = None
    weights: Mapping[str, float] | None = None
    value_of_time: Money | None = None
    idempotent: bool | None = None
    hedge: int | None = None
    quorum: tuple[int, int] | None = None
    agree: Agree | None = None
    explore: Explore | None = None
    when_all_open: WhenAllOpen | None = None
