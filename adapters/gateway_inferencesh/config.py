"""What a configuration and a target of this adapter may say. Unknown words are errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    StrictStr,
    model_validator,
)

from gateway.types import JSON

_KEY = re.compile(r"[ -~]+")
_APP = re.compile(r"(?:app/)?([\w.-]+)/([\w.-]+)(?:@([\w.-]+))?(?::([\w.-]+))?")


def _check_web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f'"{url}" is not an address that begins with http:// or https://')
    return url


def _check_key(key: SecretStr) -> SecretStr:
    """Leave the line end out that a file or a shell has put behind it."""
    text = key.get_secret_value().strip()
    if not _KEY.fullmatch(text):
        raise ValueError("this is no API key: it is empty, or has characters that no header can hold")
    return SecretStr(text)


def _check_app(ref: str) -> str:
    parse_app(ref)
    return ref


WebAddress = Annotated[StrictStr, AfterValidator(_check_web_address)]


class InferenceshConfig(BaseModel):
    """One account at inference.sh, or at an API that speaks like it.

    Attributes:
        url: without a path.
        api_key: sent as a bearer token with every call to `url`, and to no other host.
        timeout_seconds: for one request: to connect, and between two reads.
        heartbeat_seconds: how often the server says on a stream that it is there. A stream that says
            nothing for two and a half of these is left.
        microcents_per_usd: how many of the bill's units make a dollar: 1e8 by the newer documentation, 1e6
            by an older one.
        max_line_bytes: of one line of a stream, which carries a whole output.
        max_streams: open at once; the jobs beyond are polled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: WebAddress = "https://api.inference.sh"
    api_key: Annotated[SecretStr, AfterValidator(_check_key)]
    timeout_seconds: float = Field(default=30.0, gt=0)
    heartbeat_seconds: float = Field(default=10.0, gt=0)
    microcents_per_usd: PositiveInt = 100_000_000
    max_line_bytes: PositiveInt = 64 * 1024 * 1024
    max_streams: NonNegativeInt = 200


class InferenceshTarget(BaseModel):
    """What to run, where, and how.

    Attributes:
        app: "namespace/name[@version][:function]"; or `app_id`.
        app_id: the app's own id, instead of `app`.
        version_id: the id of one version of it.
        function: of the app; its default one if absent.
        setup: parameters of the worker's setup, which decide whether a warm worker fits.
        infra: whose machines.
        workers: ids of the private workers that may take it.
        webhook: is told by the backend when the job ends.
        session: "new", or the id of one that exists.
        session_timeout: idle seconds after which a new session ends, 1 to 3600.
        run_at: not before; ISO text with an offset, or an aware datetime.
        metadata: kept with the job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    app: Annotated[StrictStr, AfterValidator(_check_app)] | None = None
    app_id: StrictStr | None = Field(default=None, min_length=1)
    version_id: StrictStr | None = Field(default=None, min_length=1)
    function: StrictStr | None = Field(default=None, min_length=1)
    setup: JSON = None
    infra: Literal["cloud", "private", "private_first"] | None = None
    workers: list[StrictStr] | None = None
    webhook: WebAddress | None = None
    session: StrictStr | None = Field(default=None, min_length=1)
    session_timeout: int | None = Field(default=None, ge=1, le=3600, strict=True)
    run_at: AwareDatetime | None = None
    metadata: dict[str, JSON] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> InferenceshTarget:
        if (self.app is None) == (self.app_id is None):
            raise ValueError('a target needs either app = "namespace/name" or app_id')
        if self.session_timeout is not None and self.session != "new":
            raise ValueError('session_timeout goes only with session = "new"')
        in_app = parse_app(self.app).function if self.app else None
        if self.function and in_app and self.function != in_app:
            raise ValueError(f"app names the function {in_app}, and function says {self.function}")
        return self

    def encode(self) -> dict[str, JSON]:
        """Return the fields that are said, as POST /apps/run takes them."""
        body: dict[str, JSON] = self.model_dump(exclude_none=True, exclude={"run_at"})
        if self.run_at is not None:
            body["run_at"] = encode_time(self.run_at)
        return body


class AppRef(BaseModel):
    """The parts of "namespace/name[@version][:function]"."""

    model_config = ConfigDict(frozen=True)

    namespace: str
    name: str
    version: str | None = None
    function: str | None = None

    @property
    def path(self) -> str:
        """Return namespace/name."""
        return f"{self.namespace}/{self.name}"


def parse_app(ref: str) -> AppRef:
    """Read an app's reference; "@latest" is no version, and a leading "app/" means nothing.

    Raises:
        ValueError: if it has another shape.
    """
    match = _APP.fullmatch(ref)
    if match is None:
        raise ValueError(f'"{ref}" is not an app; write it as "namespace/name[@version][:function]"')
    namespace, name, version, function = match.groups()
    return AppRef(
        namespace=namespace, name=name, version=None if version == "latest" else version, function=function
    )


def encode_time(at: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
