"""What a run would cost, by the API's own estimate."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from gateway.errors import Rejected
from gateway.files import File, encode_files, has_files, replace_files
from gateway.task import Quote
from gateway.types import JSON
from gateway_inferencesh.api import Api, make_path
from gateway_inferencesh.config import InferenceshTarget, parse_app
from gateway_inferencesh.snapshots import make_money


class Estimates:
    """The estimates of an account; app ids are asked for once."""

    def __init__(self, api: Api, microcents_per_usd: int) -> None:
        self._api = api
        self._microcents_per_usd = microcents_per_usd
        self._app_ids: dict[str, str] = {}

    async def fetch_quote(self, target: InferenceshTarget, input: JSON, *, quoted_at: datetime) -> Quote:
        """Ask for an estimate; an app that has none has an unknown price. Raises BackendError."""
        encoded = encode_files(input)
        app = parse_app(target.app) if target.app else None
        app_id = target.app_id or await self._fetch_app_id(app.path if app else "")
        function = target.function or (app.function if app else None)
        request = {"input": await replace_files(encoded, _name_file)}
        request |= {"function": function} if function else {}
        path = make_path("store", "apps", app_id, "estimate")
        try:
            estimate = await self._api.fetch_object("POST", path, what="estimate", json=request)
        except Rejected as error:
            if error.http_status != 404:
                raise
            estimate = {"confidence": "unknown", "estimate_error": "the backend has no estimate for this app"}
        return make_quote(
            estimate,
            microcents_per_usd=self._microcents_per_usd,
            quoted_at=quoted_at,
            unseen=get_file_fields(encoded),
        )

    async def _fetch_app_id(self, app: str) -> str:
        if app not in self._app_ids:
            told = await self._api.fetch_object("GET", make_path("apps", *app.split("/")), what=f"app {app}")
            if not isinstance(told.get("id"), str):
                raise self._api.make_broken(f"app {app}", "it names no id", lands=False)
            self._app_ids[app] = told["id"]
        return self._app_ids[app]


async def _name_file(file: File) -> JSON:
    return file.name


def make_quote(
    estimate: Mapping[str, JSON],
    *,
    microcents_per_usd: int,
    quoted_at: datetime,
    unseen: frozenset[str] = frozenset(),
) -> Quote:
    """Read an estimate `{confidence, microcents?, min?, max?, depends_on[], ...}`.

    An amount that is not told is not known. Neither is the price when it depends on fields of the input that
    the estimate did not see (`unseen`): files are not uploaded for a quote.
    """
    likely, least, most = (_read(estimate.get(name)) for name in ("microcents", "min", "max"))
    confidence = estimate.get("confidence")
    detail = {name: value for name, value in estimate.items() if value not in (None, "", [])}
    if depends := sorted(unseen & _get_fields(estimate.get("depends_on"))):
        detail["unseen"] = depends
    elif confidence == "exact" and likely is not None:
        price = make_money(likely, microcents_per_usd)
        return Quote(expected=price, upper=price, confidence="exact", quoted_at=quoted_at, detail=detail)
    elif confidence == "range" and most is not None:
        middle = likely if likely is not None else ((least or 0) + most) / 2
        return Quote(
            expected=make_money(middle, microcents_per_usd),
            upper=make_money(most, microcents_per_usd),
            confidence="range",
            quoted_at=quoted_at,
            detail=detail,
        )
    return Quote(expected=None, upper=None, confidence="unknown", quoted_at=quoted_at, detail=detail)


def get_file_fields(value: JSON) -> frozenset[str]:
    """Return the top fields of an encoded input that hold files."""
    return (
        frozenset(name for name in value if has_files(value[name]))
        if isinstance(value, dict)
        else frozenset()
    )


def _get_fields(depends_on: JSON) -> frozenset[str]:
    """Return the fields of the input that a price depends on, with or without "input." before them."""
    if not isinstance(depends_on, list):
        return frozenset()
    paths = (str(path).removeprefix("inputs.").removeprefix("input.") for path in depends_on)
    return frozenset(path.partition(".")[0].partition("[")[0] for path in paths)


def _read(amount: JSON) -> float | None:
    is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
    return amount if is_number and 0 <= amount < float("inf") else None
