"""What a user writes in gateway.toml: one table per backend, one per target."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class QueueConfig(BaseModel):
    """The table [backends.NAME].

    Attributes:
        url: where the queue is.
        token: comes as a plain value; the user has written `env:NAME` or `file:PATH`.
        timeout_seconds: for each request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "https://queue.example"
    token: SecretStr
    timeout_seconds: float = Field(default=10.0, gt=0)


class QueueTarget(BaseModel):
    """A model's target on a queue: the app to run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app: str = Field(min_length=1)
