"""What the native API takes: bodies and queries, checked by pydantic."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints

from gateway.config import Duration, LimitsConfig, Strict, parse_duration
from gateway.lifecycle import Phase, Status
from gateway.store.bill import BY, By
from gateway.task import Task
from gateway.types import JSON

Text = Annotated[str, StringConstraints(max_length=1000)]


def _read_status(value: object) -> object:
    return Status[value.upper()] if isinstance(value, str) and value.upper() in Status.__members__ else value


def _split(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _read_since(value: object) -> object:
    """Read a time, or "7d": so long ago."""
    try:
        return parse_duration(value)
    except ValueError:
        return value


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
    limits: LimitsConfig = LimitsConfig()
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

    url: str = Field(max_length=2000, pattern=r"^https?://[^\s]+$")


class RunBody(TaskBody):
    """The body of POST /v1/runs."""

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
    after: Text | None = Field(default=None, description="the `next` of the page before")
    limit: int = Field(default=50, ge=1, le=200)


class CostsQuery(Strict):
    """Which costs to sum up, and what the lines are told apart by."""

    since: Annotated[Duration | AwareDatetime, BeforeValidator(_read_since)] = timedelta(days=30)
    by: Annotated[tuple[By, ...], BeforeValidator(_split)] = BY

    def get_since(self, now: datetime) -> datetime:
        """Return the time since when."""
        return now - self.since if isinstance(self.since, timedelta) else self.since
