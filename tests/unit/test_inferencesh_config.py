"""What a configuration and a target may say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import InvalidInput
from gateway.targets import Targets
from gateway_inferencesh.config import InferenceshConfig, InferenceshTarget, parse_app

APP: dict[str, Any] = {"app": "acme/chat"}


def test_defaults() -> None:
    config = InferenceshConfig.model_validate({"api_key": "inf_x"})
    assert config.url == "https://api.inference.sh"
    assert (config.heartbeat_seconds, config.microcents_per_usd) == (10, 100_000_000)
    assert config.max_line_bytes == 64 * 1024 * 1024
    assert "inf_x" not in repr(config)


@pytest.mark.parametrize("key", ["inf_x\n", " inf_x\r\n"])
def test_a_line_end_is_no_part_of_a_key(key: str) -> None:
    assert InferenceshConfig.model_validate({"api_key": key}).api_key.get_secret_value() == "inf_x"


@pytest.mark.parametrize("key", ["", " \n", "inf_gehäuse", "inf_\nhidden", "inf_\x00hidden"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(ValidationError, match="no API key") as caught:
        InferenceshConfig.model_validate({"api_key": key})
    assert not key.strip() or key not in str(caught.value)
    assert "hidden" not in str(caught.value)


def read(target: dict[str, Any]) -> InferenceshTarget:
    return Targets(InferenceshTarget, "hosted").read(target)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"api_key": "k", "no_such_word": 1},
        {"api_key": "k", "url": "api.inference.sh"},
        {"api_key": "k", "timeout_seconds": 0},
        {"api_key": "k", "heartbeat_seconds": -1},
        {"api_key": "k", "microcents_per_usd": 0},
    ],
)
def test_wrong_configurations(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InferenceshConfig.model_validate(wrong)


@pytest.mark.parametrize(
    ("ref", "parts"),
    [
        ("acme/chat", ("acme", "chat", None, None)),
        ("app/acme/chat", ("acme", "chat", None, None)),
        ("acme/chat@1a2b", ("acme", "chat", "1a2b", None)),
        ("acme/chat@latest", ("acme", "chat", None, None)),
        ("acme/chat:answer", ("acme", "chat", None, "answer")),
        ("acme/chat@1a2b:answer", ("acme", "chat", "1a2b", "answer")),
    ],
)
def test_apps(ref: str, parts: tuple[str | None, ...]) -> None:
    app = parse_app(ref)
    assert (app.namespace, app.name, app.version, app.function) == parts


@pytest.mark.parametrize("ref", ["", "chat", "acme/", "/chat", "a/b/c", "a/b@", "a b/c", "a/b:c:d", "a/b\n"])
def test_what_is_no_app(ref: str) -> None:
    with pytest.raises(ValueError, match="is not an app"):
        parse_app(ref)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "either app"),
        ({**APP, "app_id": "x"}, "either app"),
        ({"app": "chat"}, "app: "),
        ({**APP, "wait": True}, "wait: "),
        ({**APP, "stream": True}, "stream: "),
        ({**APP, "variant": "x"}, "variant: "),
        ({**APP, "infra": "remote"}, "infra: "),
        ({**APP, "session_timeout": 60}, "session_timeout goes only"),
        ({**APP, "session": "sess_1", "session_timeout": 60}, "session_timeout goes only"),
        ({**APP, "session": "new", "session_timeout": 0}, "session_timeout: "),
        ({**APP, "session": "new", "session_timeout": 3601}, "session_timeout: "),
        ({**APP, "session": "new", "session_timeout": "60"}, "session_timeout: "),
        ({**APP, "run_at": "2030-01-01T00:00:00"}, "run_at: "),
        ({**APP, "run_at": "tomorrow"}, "run_at: "),
        ({**APP, "webhook": "ftp://x"}, "webhook: "),
        ({**APP, "workers": "w1"}, "workers: "),
        ({**APP, "metadata": []}, "metadata: "),
        ({"app": "a/b:one", "function": "two"}, "function"),
    ],
)
def test_wrong_targets_say_what_is_wrong(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match="the target for hosted is wrong") as caught:
        read(wrong)
    assert says in str(caught.value)


def test_only_what_is_said_is_sent() -> None:
    assert read({"app": "acme/chat@1a2b:f"}).encode() == {"app": "acme/chat@1a2b:f"}
    everything = {
        "app_id": "app_1",
        "version_id": "v",
        "function": "f",
        "setup": {"model": "large", "nothing": None},
        "infra": "private_first",
        "workers": ["w1"],
        "webhook": "https://me.example/hook",
        "session": "new",
        "session_timeout": 3600,
        "metadata": {"action": {"key": "k"}},
    }
    assert read(everything).encode() == everything


@pytest.mark.parametrize(
    "run_at",
    [
        "2030-01-01T00:00:00Z",
        "2030-01-01T01:00:00+01:00",
        datetime(2030, 1, 1, tzinfo=UTC),
        datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_a_time_is_sent_in_utc(run_at: Any) -> None:
    assert read({**APP, "run_at": run_at}).encode()["run_at"] == "2030-01-01T00:00:00Z"
