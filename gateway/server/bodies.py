"""What the native API takes: bodies and queries, checked by pydantic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, field_validator
from pydantic.config import JsonDict

from gateway.config import LimitsConfig, Strict, parse_duration
from gateway.lifecycle import Phase, Status
from gateway.store.bill import BY, By
from gateway.task import Task
from gateway.types import DECIMALS, JSON

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
Text = Annotated[str, StringConstraints(max_length=1000)]


def _read_status(value: object) -> object:
    return Status[value.upper()] if isinstance(value, str) and value.upper() in Status.__members__ else value


def _read_since(value: object) -> object:
    """Read a time, or "7d": so long ago."""
    if isinstance(value, str) and "T" in value:
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError(f'{value!r} has no time zone; write it as "2026-01-31T12:00:00Z"')
        try:
            return at.astimezone(UTC)
        except OverflowError:  # the first hours of the year 1, or the last of the year 9999
            return _BEGINNING if at.year == 1 else datetime.max.replace(tzinfo=UTC)
    return parse_duration(value)


DURATION_SCHEMA: JsonDict = {
    "type": "string",
    "pattern": r"^[0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h|d)$",
    "examples": ["30s"],
}
PRICE_SCHEMA: JsonDict = {
    "type": "string",
    "pattern": rf"^[0-9]{{1,12}}([.][0-9]{{1,8}})? ({'|'.join(DECIMALS)})$",
    "examples": ["0.002 USD"],
}
_SINCE_SCHEMA: JsonDict = {"anyOf": [DURATION_SCHEMA, {"type": "string", "format": "date-time"}]}


def _read_whole(value: object) -> object:
    """Read 2.0 as 2: to JSON they are one number."""
    if isinstance(value, list):
        return tuple(_read_whole(item) for item in value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


class LimitsBody(LimitsConfig):
    """A task's limits; see the configuration's."""

    @field_validator("max_attempts", "hedge", "quorum", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        return _read_whole(value)


class TaskBody(Strict):
    """A task, and where it may go."""

    model: Text | None = Field(default=None, description="a model of GET /v1/models")
    input: JSON = Field(default=None, description="what the model gets")
    target: dict[str, JSON] | None = Field(
        default=None, description="words of the named backend, laid over the model's"
    )
    backend: Text | tuple[Text, ...] = Field(
        default="auto", description='"auto", "auto:cheapest", a name, or names in the order to try'
    )
    accept: Literal["first", "cheapest", "hand"] = "first"
    stream: bool = Field(default=False, description="only backends that stream are candidates")
    limits: LimitsBody = LimitsBody()
    labels: dict[str, str] = Field(default_factory=dict, description="free words, kept with the run")

    def make_task(self) -> Task:
        """Return the task."""
        return Task(
            model=self.model,
            input=self.input,
            target=self.target,
            accept=self.accept,
            stream=self.stream,
            limits=self.limits.make_limits(),
            labels=self.labels,
        )


class WebhookBody(Strict):
    """Where to tell that a run has ended."""

    url: str = Field(max_length=2000, pattern=r"^https?://[!-~]+$")


class RunBody(TaskBody):
    """The body of POST /v1/runs."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "sentiment", "input": {"text": "What a fine day."}}]}
    )

    webhook: WebhookBody | None = None


class AcceptBody(Strict):
    """The body of POST /v1/runs/{id}/accept."""

    answer_id: str = Field(min_length=1, max_length=1000, description="of the attempt's `snapshot.answers`")


class WaitQuery(Strict):
    """How long to wait for the run's end."""

    wait: float = Field(
        default=0.0, ge=0, le=3600, description="seconds; at most as long as server.wait_most"
    )


class EventsQuery(Strict):
    """Where to go on reading."""

    after: int = Field(default=0, ge=0, le=2**31, description="the `seq` of the last event that was read")


class ListQuery(Strict):
    """Which runs to list, newest first."""

    phase: Phase | None = None
    status: Annotated[Status, BeforeValidator(_read_status)] | None = None
    model: Text | None = None
    backend: Text | None = None
    idempotency_key: Text | None = None
    key: Text | None = Field(default=None, description="whose, by the API key's name; for admins")
    after: str | None = Field(
        default=None,
        pattern=r"^[0-9]{1,17}~[A-Za-z0-9_-]{1,80}$",
        description="the `next` of the page before",
    )
    limit: int = Field(
        default=50, ge=1, le=200, description="at most so many; a page of large runs has fewer"
    )
    view: Literal["summary", "full"] = Field(
        default="summary", description="a summary has no inputs, outputs, nor what attempts last looked like"
    )


class CostsQuery(Strict):
    """Which costs to sum up, and what the lines are told apart by."""

    since: Annotated[timedelta | datetime, BeforeValidator(_read_since), WithJsonSchema(_SINCE_SCHEMA)] = (
        timedelta(days=30)
    )
    by: tuple[By, ...] = BY
    key: Text | None = Field(default=None, description="whose, by the API key's name; for admins")

    def get_since(self, now: datetime) -> datetime:
        """Return the time since when; what is before all time is its beginning."""
        if isinstance(self.since, datetime):
            return max(self.since, _BEGINNING)
        return max(now - min(self.since, now - _BEGINNING), _BEGINNING)
