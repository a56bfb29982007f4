"""The configuration: `gateway.toml`, and the only reader of the environment."""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
)

from gateway.errors import ConfigError, SecretMissing
from gateway.limits import Agree, Explore, Limits, OnDoubt, OnFailed, Sort, WhenAllOpen
from gateway.types import JSON, Money

APP_NAME = "inference-gateway"
FILE_NAME = "gateway.toml"

ModelT = TypeVar("ModelT", bound=BaseModel)

_USER_FOLDERS = {"config": ("XDG_CONFIG_HOME", ".config"), "state": ("XDG_STATE_HOME", ".local/state")}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\s*")
_RATE = re.compile(r"\s*([1-9][0-9]*)\s*/\s*(s|m|h|d)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> timedelta:
    """Read "250ms", "30s", "15m", "2h" or "1d". Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{value!r} is not a duration; write it as "30s", "15m" or "2h"')
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise ValueError(f"{value!r} is longer than any run can take") from None


def parse_rate(value: object) -> tuple[int, float]:
    """Read "100/m" as (100, 60.0): so many in so many seconds. Raises ValueError."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{value!r} is not a rate; write it as "5/s", "100/m" or "1000/h"')
    return int(match[1]), _SECONDS[match[2]]


def parse_money(value: object) -> Money:
    """Read "0.002 USD". Raises ValueError, also for less than nothing: a budget would grow by being spent."""
    if not isinstance(value, Money | str):
        raise ValueError(f'{value!r} is not an amount of money; write it as "0.002 USD"')  # noqa: TRY004  pydantic wants it
    money = Money.parse(value) if isinstance(value, str) else value
    if money.amount < 0:
        raise ValueError(f"{money} is less than nothing")
    return money


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
SubmissionRate = Annotated[tuple[int, float], BeforeValidator(parse_rate)]
Price = Annotated[Money, BeforeValidator(parse_money)]


class Strict(BaseModel):
    """A table in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class LimitsConfig(Strict):
    """The limits that a model or the gateway sets for tasks that don't; see gateway.task.Limits."""

    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    max_cost: Price | None = None
    deadline: Duration | None = None
    max_attempts: int | None = Field(default=None, ge=1)
    on_doubt: OnDoubt | None = None
    on_failed: OnFailed | None = None
    doubt_wait: Duration | None = None
    sort: Sort | None = None
    weights: dict[str, float] | None = None
    value_of_time: Price | None = None
    idempotent: bool | None = None
    hedge: int | None = None
    quorum: tuple[int, int] | None = None
    agree: Agree | None = None
    explore: Explore | None = None
    when_all_open: WhenAllOpen | None = None

    def make_limits(self) -> Limits:
        """Return the same as the gateway's own value."""
        return Limits(**{name: getattr(self, name) for name in LimitsConfig.model_fields})


class GatewaySettings(LimitsConfig):
    """The table [gateway]."""

    store: str | None = Field(default=None, repr=False)  # a password may be in it
    currency: str = "USD"
    rates_max_age: Duration = timedelta(days=30)
    retention: Duration | None = None


class ShapeSettings(Strict):
    """How a request becomes a model's input, and its output the answer; see gateway.catalogue.Mapper."""

    input: Any = None
    output: Any = None
    piece: Any = None
    usage: Any = None


class OpenAISettings(Strict):
    """A table [models.NAME.openai]: which of that API's operations the model serves, and how."""

    chat: ShapeSettings | None = None
    embeddings: ShapeSettings | None = None


class ModelSettings(LimitsConfig):
    """A table [models.NAME]."""

    targets: dict[str, dict[str, Any]] = Field(min_length=1)
    description: str | None = None
    openai: OpenAISettings | None = None


class RateSettings(Strict):
    """A table [rates.ASSET]: what one whole unit costs in the reporting currency, and since when."""

    price: Price
    on: date


class BudgetSettings(Strict):
    """A table [[budgets]]: a cap on what is reserved and settled; see gateway.policy.budget.Budget."""

    limit: Price
    per: Literal["run", "day", "total"] = "day"
    backend: str | None = None
    model: str | None = None
    key: str | None = None


class BackendSettings(BaseModel):
    """A table [backends.NAME]: the adapter's name, and what that adapter wants to know."""

    model_config = ConfigDict(extra="allow", frozen=True)

    adapter: str
    max_in_flight: int | None = Field(default=None, ge=1)
    rate: SubmissionRate | None = None

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Name the adapter's keys without what they say: secrets are in their places already."""
        yield "adapter", self.adapter
        yield "keys", sorted(self.model_extra or {})

    def get_own_settings(self) -> dict[str, JSON]:
        """Return what is the adapter's own to read."""
        return dict(self.model_extra or {})


class ServerSettings(Strict):
    """The table [server]: how `gateway serve` listens, and what it takes."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1)
    hosts: tuple[str, ...] = ()
    max_body: int = Field(default=32 * 1024 * 1024, ge=1)
    body_timeout: Duration = timedelta(seconds=30)
    wait_most: Duration = timedelta(seconds=60)
    shutdown_timeout: Duration = timedelta(seconds=20)
    webhook_secret: SecretStr | None = None
    webhook_networks: tuple[IPvAnyNetwork, ...] = ()
    metrics: Literal["off", "admin", "open"] = "off"
    overhead_header: bool = False


class ObservabilitySettings(Strict):
    """The table [observability]: traces, metrics that are sent, and logs."""

    traces: Literal["off", "otlp", "console"] | None = None
    propagate: tuple[str, ...] = ()
    metrics: Literal["off", "otlp"] = "off"
    logs: Literal["text", "json"] = "text"


class Config(Strict):
    """The whole configuration, with secrets in place of the words that name them."""

    gateway: GatewaySettings = GatewaySettings()
    backends: dict[str, BackendSettings] = {}
    models: dict[str, ModelSettings] = {}
    rates: dict[str, RateSettings] = {}
    budgets: tuple[BudgetSettings, ...] = ()
    server: ServerSettings = ServerSettings()
    observability: ObservabilitySettings = ObservabilitySettings()
    folder: Path = Field(default=Path(), exclude=True)


def find_config(env: Mapping[str, str] | None = None) -> Path:
    """Return the path of the configuration: GATEWAY_CONFIG, the working folder's, the user's.

    Raises:
        ConfigError: if there is none; the message lists where it was looked for.
    """
    env = os.environ if env is None else env
    if named := env.get("GATEWAY_CONFIG"):
        path = Path(named)
        if not path.is_file():
            raise ConfigError(f"GATEWAY_CONFIG names {path}, which is not a file")
        return path
    places = [Path.cwd() / FILE_NAME, find_user_folder("config", env) / FILE_NAME]
    for path in places:
        if path.is_file():
            return path
    looked = " and ".join(str(path) for path in places)
    raise ConfigError(
        f"there is no configuration; looked for {looked} (or set GATEWAY_CONFIG);"
        " `gateway devnet up` writes one to try everything with"
    )


def find_user_folder(
    kind: Literal["config", "state"], env: Mapping[str, str] | None = None, platform: str = sys.platform
) -> Path:
    """Return where a user's files of that kind are by the rules of XDG, Apple or Microsoft."""
    env = os.environ if env is None else env
    home, (variable, by_default) = Path.home(), _USER_FOLDERS[kind]
    if platform == "win32":
        return Path(env.get("LOCALAPPDATA") or home / "AppData" / "Local") / APP_NAME / APP_NAME
    if Path(named := env.get(variable, "")).is_absolute():  # XDG wants others ignored
        return Path(named) / APP_NAME
    return home / ("Library/Application Support" if platform == "darwin" else by_default) / APP_NAME


def load(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file.

    Args:
        path: the file; found as `find_config` says if absent.
        env: instead of the process's environment.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key (with the nearest right one), a wrong value.
        SecretMissing: an env:NAME or file:PATH that is not there.
    """
    env = os.environ if env is None else env
    path = find_config(env) if path is None else Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark before it
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    folder = path.absolute().parent
    for name in ("gateway", "backends", "server"):
        if isinstance(data.get(name), dict):
            data[name] = _resolve_secrets(data[name], f"{path.name}: {name}", folder, env)
    config = validate(Config, {**data, "folder": folder}, path.name)
    if config.observability.traces is None:
        traces = "otlp" if _wants_traces(env) else "off"
        settings = config.observability.model_copy(update={"traces": traces})
        config = config.model_copy(update={"observability": settings})
    return config


def _wants_traces(env: Mapping[str, str]) -> bool:
    """Say whether the environment asks for traces, by OpenTelemetry's own names, and can have them."""
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = env.get("OTEL_TRACES_EXPORTER", "otlp")
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if exporter != "otlp" or not any(env.get(name) for name in places):
        return False
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def make_store_url(config: Config) -> str:
    """Return the store's URL with an absolute path: the configured one, or the user's state folder."""
    url = config.gateway.store
    if url is None:
        return f"sqlite:///{find_user_folder('state') / 'runs.db'}"
    path = url.removeprefix("sqlite:///")
    if path not in {url, ""} and not path.startswith("/"):
        return f"sqlite:///{config.folder / path}"
    return url


def validate(model: type[ModelT], data: Mapping[str, Any], where: str) -> ModelT:
    """Check data against a pydantic model. Raises ConfigError with the place and the nearest right key."""
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(model, item, where) for item in error.errors())) from None


def _describe(model: type[BaseModel], item: Any, where: str) -> str:
    place = ".".join(str(part) for part in item["loc"])
    at = f"{where}: {place}" if place else where
    if item["type"] == "extra_forbidden":
        known = _get_keys(model, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        return f"{at} is not a known key; {hint}"
    if item["type"] == "missing":
        return f"{at} is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{at}: {message[:1].lower()}{message[1:]}"


def _get_keys(model: Any, path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a nested table may have, as far as the models tell."""
    for part in path:
        fields = getattr(model, "model_fields", {})
        if part in fields:
            model = fields[part].annotation
        args = [a for a in getattr(model, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = args[0] if args else model
    return [name for name in getattr(model, "model_fields", {}) if name != "folder"]


def _resolve_secrets(value: Any, place: str, folder: Path, env: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _resolve_secrets(item, f"{place}.{name}", folder, env) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolve_secrets(item, place, folder, env) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        if not env.get(name):
            raise SecretMissing(f"{place} is {value!r}, but the environment variable {name} is not set")
        return env[name]
    if value.startswith("file:"):
        path = folder / value.removeprefix("file:")
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SecretMissing(
                f"{place} is {value!r}, but {path} can't be read: {error.strerror}"
            ) from error
        except UnicodeDecodeError:  # its message would show a part of the secret
            raise ConfigError(f"{place} is {value!r}, but {path} is not text in UTF-8") from None
    return value
