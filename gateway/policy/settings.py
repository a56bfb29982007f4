"""Limits of task, model and gateway laid over each other, and refused where they contradict."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import fields
from datetime import timedelta
from typing import Any

from gateway.errors import InvalidInput, UnknownBackend
from gateway.limits import Limits

_ADD_UP = ("ignore", "require")  # what one layer forbids or demands, another can't take back
_LISTS = ("only", "ignore", "order")
_LONGEST = timedelta(days=100 * 365)
_HINTS = {
    "max_cost": 'it has to be Money, as in Money.parse("0.01 USD")',
    "value_of_time": 'it has to be Money, as in Money.parse("1 USD")',
    "deadline": "it has to be a timedelta",
    "doubt_wait": "it has to be a timedelta",
}


def merge_limits(*layers: Limits) -> Limits:
    """Lay limits over each other, the first layer wins (0 counts as said); lists that forbid add up.

    Raises:
        InvalidInput: settings that contradict each other, named.
    """
    merged: dict[str, Any] = {}
    for field in fields(Limits):
        said = [getattr(layer, field.name) for layer in layers]
        if field.name in _ADD_UP:
            merged[field.name] = tuple(dict.fromkeys(item for value in reversed(said) for item in value))
        elif field.name == "order":
            merged["order"] = next((value for value in said if value), ())
        else:
            merged[field.name] = next((value for value in said if value is not None), None)
    limits = Limits(**merged)
    check_limits(limits)
    return limits


def read_limits(limits: Limits) -> Limits:
    """Return a caller's limits as the store will give them back. Raises InvalidInput for what can't be meant.

    Nobody else looks: a price written as text would fail in the middle of a plan, and a word that there is
    none of would be stored and hide all that is read with it.
    """
    from pydantic import ValidationError

    if not isinstance(limits, Limits):
        raise InvalidInput(f"limits are a gateway.Limits, these are of type {type(limits).__name__}")
    try:
        return Limits.model_validate({field.name: getattr(limits, field.name) for field in fields(Limits)})
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)[0]
        name, value = wrong["loc"][0], wrong["input"]
        hint = _HINTS.get(str(name), str(wrong["msg"]))
        raise InvalidInput(f"{name}={value!r}: {hint[:1].lower()}{hint[1:]}") from None


def check_limits(limits: Limits) -> None:
    """Refuse limits that no run can keep. Raises InvalidInput that names the settings."""
    for is_wrong, message in _CONTRADICTIONS:
        if is_wrong(limits):
            raise InvalidInput(message.format(**{f.name: getattr(limits, f.name) for f in fields(Limits)}))


def check_names(limits: Limits, backends: Collection[str]) -> None:
    """Refuse names of backends that there are none of. Raises UnknownBackend with the nearest right one."""
    lists = {name: getattr(limits, name) or () for name in _LISTS}
    for setting, names in {**lists, "weights": tuple(limits.weights or ())}.items():
        for name in names:
            if name not in backends:
                near = difflib.get_close_matches(name, backends, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(backends))}"
                raise UnknownBackend(f"{setting}: there is no backend {name!r}; {hint}")


def _is_endless(time: timedelta | None) -> bool:
    """Say whether a time from now may be beyond the calendar's end."""
    return time is not None and time > _LONGEST


def _is_hedged_at_a_price(limits: Limits) -> bool:
    return (limits.hedge or 1) > 1 and not limits.idempotent and limits.max_cost is None


_CONTRADICTIONS: tuple[tuple[Callable[[Limits], bool], str], ...] = (
    (
        lambda x: x.max_attempts is not None and x.max_attempts < 1,
        "max_attempts is {max_attempts}: a run needs at least one attempt",
    ),
    (lambda x: _is_endless(x.deadline), "deadline={deadline} is longer than any run can take"),
    (lambda x: _is_endless(x.doubt_wait), "doubt_wait={doubt_wait} is longer than any run can take"),
    (
        lambda x: x.on_doubt == "resubmit" and x.max_cost is None,
        'on_doubt="resubmit" may pay twice: it needs a max_cost',
    ),
    (
        lambda x: bool(x.only is not None and set(x.only) & set(x.ignore)),
        "only={only} and ignore={ignore} name the same backend",
    ),
    (
        lambda x: bool(x.only is not None and set(x.order) - set(x.only)),
        "order={order} names a backend that only={only} forbids",
    ),
    (lambda x: bool(set(x.order) & set(x.ignore)), "order={order} and ignore={ignore} name the same backend"),
    (lambda x: any(w <= 0 for w in (x.weights or {}).values()), "weights={weights}: each must be above 0"),
    (lambda x: x.hedge is not None and x.hedge < 1, "hedge is {hedge}: it counts backends, from 1"),
    (
        _is_hedged_at_a_price,
        "hedge={hedge} may pay {hedge} times: it needs idempotent=true, or a max_cost that covers all",
    ),
    (
        lambda x: x.quorum is not None and not 1 <= x.quorum[0] <= x.quorum[1],
        "quorum={quorum} must be (k, n) with 1 <= k <= n",
    ),
    (
        lambda x: (x.hedge or 1) > 1 and x.quorum is not None,
        "hedge={hedge} and quorum={quorum}: a run has one of them",
    ),
    (lambda x: x.agree is not None and x.quorum is None, "agree={agree!r} means nothing without a quorum"),
    (
        lambda x: x.value_of_time is not None and x.sort not in (None, "balanced"),
        'value_of_time={value_of_time} is used by sort="balanced" alone, not by {sort!r}',
    ),
)
