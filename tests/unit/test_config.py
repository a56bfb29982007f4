"""gateway.toml: what is written is what is meant, and every slip is named with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import AsyncGateway
from gateway.config import (
    APP_NAME,
    Config,
    GatewaySettings,
    find_config,
    find_user_folder,
    load,
    make_store_url,
    parse_duration,
    parse_money,
)
from gateway.errors import ConfigError, GatewayError, SecretMissing
from gateway.limits import Limits
from gateway.types import Money

EXAMPLE = """
[gateway]
store = "sqlite:///runs.db"            # or "memory:"

[backends.node1]
adapter = "infernet"
url = "http://127.0.0.1:4000"

[backends.hosted]
adapter = "inferencesh"
url = "https://api.inference.sh"        # default
api_key = "env:INFERENCE_API_KEY"

[models.sentiment]
[models.sentiment.targets]
node1  = { containers = ["sentiment"] }
hosted = { app = "acme/sentiment@1a2b", cost = "0.002 USD" }
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_mark_of_an_editor_before_it_is_no_part_of_it(write: Write) -> None:
    assert list(load(write(f"\ufeff{EXAMPLE}"), {"INFERENCE_API_KEY": "secret"}).backends) == [
        "node1",
        "hosted",
    ]


def test_the_example_loads(write: Write, tmp_path: Path) -> None:
    config = load(write(EXAMPLE), {"INFERENCE_API_KEY": "secret"})
    assert list(config.backends) == ["node1", "hosted"]
    assert config.backends["node1"].adapter == "infernet"
    assert config.backends["node1"].get_own_settings() == {"url": "http://127.0.0.1:4000"}
    assert config.backends["hosted"].get_own_settings()["api_key"] == "secret"
    targets = config.models["sentiment"].targets
    assert targets["node1"] == {"containers": ["sentiment"]}
    assert targets["hosted"] == {"app": "acme/sentiment@1a2b", "cost": "0.002 USD"}
    assert config.gateway.store == "sqlite:///runs.db"
    assert config.folder == tmp_path


@pytest.mark.parametrize("store", ["sqlite:///runs.db", "memory:"])
def test_the_example_makes_a_gateway(write: Write, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    monkeypatch.setenv("INFERENCE_API_KEY", "secret")
    gateway = AsyncGateway.from_config(write(EXAMPLE.replace("sqlite:///runs.db", store)))
    assert list(gateway.models) == ["sentiment"]
    assert gateway.models["sentiment"].targets["hosted"].cost == Money.parse("0.002 USD")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gatway]", "gatway is not a known key; did you mean 'gateway'?"),
        ("[backend.node1]\nadapter = 'x'", "backend is not a known key; did you mean 'backends'?"),
        ("[qwxyz]", "qwxyz is not a known key; known: "),
        ("[gateway]\nstor = 'memory:'", "gateway.stor is not a known key; did you mean 'store'?"),
        (
            "[gateway]\nmax_atempts = 3",
            "gateway.max_atempts is not a known key; did you mean 'max_attempts'?",
        ),
        (
            "[models.m]\ndeadlin = '3s'\ntargets = {a = {}}",
            "models.m.deadlin is not a known key; did you mean 'deadline'?",
        ),
        ("[models.m.target]\na = {}", "models.m.target is not a known key; did you mean 'targets'?"),
    ],
)
def test_an_unknown_key_names_the_nearest_right_one(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(text), {})
    assert f"gateway.toml: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[backends.node1]\nurl = 'http://a'", "backends.node1.adapter is missing"),
        ("[models.m]", "models.m.targets is missing"),
        ("[models.m.targets]", "models.m.targets: "),
        ("[models.m.targets]\nnode1 = 5", "models.m.targets.node1: input should be a valid dictionary"),
        ("gateway = 5", "gateway: input should be"),
        ("backends = ['node1']", "backends: input should be a valid dictionary"),
        ("[backends]\nnode1 = 'infernet'", "backends.node1: input should be"),
        ("[backends.node1]\nadapter = 5", "backends.node1.adapter: input should be a valid string"),
        ("[gateway]\nstore = 5", "gateway.store: input should be a valid string"),
        ("[gateway]\nmax_attempts = 0", "gateway.max_attempts: input should be greater than or equal to 1"),
        ("[gateway]\nmax_attempts = 'many'", "gateway.max_attempts: input should be a valid integer"),
        ("[gateway]\non_doubt = 'pray'", "gateway.on_doubt: input should be 'wait', 'fail' or 'resubmit'"),
        ("[gateway]\non_failed = 'again'", "gateway.on_failed: input should be 'stop' or 'next'"),
        ("[gateway]\nonly = 'node1'", "gateway.only: input should be a valid tuple"),
        ("[gateway]\ndeadline = 'soon'", "gateway.deadline: 'soon' is not a duration; write it as \"30s\", "),
        ("[gateway]\ndeadline = 30", "gateway.deadline: 30 is not a duration"),
        (
            "[gateway]\ndeadline = '99999999999d'",
            "gateway.deadline: '99999999999d' is longer than any run can take",
        ),
        (
            "[gateway]\nmax_cost = 0.002",
            'gateway.max_cost: 0.002 is not an amount of money; write it as "0.002 USD"',
        ),
        ("[gateway]\nmax_cost = '1 DOGE'", "gateway.max_cost: unknown asset 'DOGE'; known: USD, EUR"),
        ("[gateway]\nmax_cost = '0.000000001 USD'", "has more digits than USD can hold (8)"),
        ("[gateway]\nmax_cost = '5'", 'gateway.max_cost: "5" is not an amount of money'),
        (
            "[rates.EUR]\nprice = '-1 USD'\non = 2026-11-01",
            "rates.EUR.price: -1 USD is less than nothing",
        ),
        ("[[budgets]]\nlimit = '-5 USD'", "budgets.0.limit: -5 USD is less than nothing"),
    ],
)
def test_a_wrong_value_names_its_place_and_what_to_write(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(text), {})
    assert message in str(caught.value)
    assert str(caught.value).startswith("gateway.toml: ")
    assert "\n" not in str(caught.value)


def test_all_slips_are_told_at_once(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.stor .*; .*models\.m\.targets is missing"):
        load(write("[gateway]\nstor = 'x'\n[models.m]"), {})


@pytest.mark.parametrize("text", ["[gateway", "a = ", "a = 1\na = 2", "store = memory:", "\x00"])
def test_what_is_no_toml_is_said_with_the_line(write: Write, text: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.toml is not TOML: .*"):
        load(write(text), {})


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml can't be read: No such file"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe4'")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "latin.toml", {})


@given(st.text(st.characters(codec="utf-8")))
def test_no_text_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8")
    try:
        assert isinstance(load(path, {}), Config)
    except GatewayError as error:
        assert isinstance(error, ConfigError)  # noqa: PT017  either it loads, or it says why not


KEY = "[backends.b]\nadapter = 'x'\napi_key = '{}'\n"


def load_key(path: Path, env: dict[str, str]) -> object:
    return load(path, env).backends["b"].get_own_settings()["api_key"]


def test_secrets_come_from_where_they_are_named(write: Write, tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("from the file\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "key.txt").write_text("deeper")
    absolute = str(tmp_path / "key.txt")
    for named, secret in (
        ("env:KEY", "from the environment"),
        ("file:key.txt", "from the file"),
        ("file:deep/key.txt", "deeper"),
        (f"file:{absolute}", "from the file"),
        ("plain", "plain"),
    ):
        assert load_key(write(KEY.format(named)), {"KEY": "from the environment"}) == secret


def test_secrets_are_found_in_depth_and_nowhere_else(write: Write) -> None:
    text = """
        [backends.b]
        adapter = "x"
        chain = { rpc = "env:RPC", more = [{ key = "env:RPC" }] }
        [models.m.targets]
        b = { prompt = "env:RPC" }
    """
    config = load(write(text), {"RPC": "https://secret"})
    own = config.backends["b"].get_own_settings()
    assert own["chain"] == {"rpc": "https://secret", "more": [{"key": "https://secret"}]}
    assert config.models["m"].targets["b"] == {"prompt": "env:RPC"}  # a target is no place for a secret


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("env:KEY", "'env:KEY', but the environment variable KEY is not set"),
        ("env:EMPTY", "'env:EMPTY', but the environment variable EMPTY is not set"),
        ("env:", "is 'env:', but"),
        ("file:none.txt", "can't be read: No such file"),
        ("file:", "can't be read: Is a directory"),
    ],
)
def test_a_missing_secret_is_named(write: Write, named: str, message: str) -> None:
    with pytest.raises(SecretMissing) as caught:
        load(write(KEY.format(named)), {"EMPTY": ""})
    assert message in str(caught.value)
    assert "gateway.toml: backends.b.api_key is " in str(caught.value)


def test_a_secret_that_is_no_text_is_not_shown(write: Write, tmp_path: Path) -> None:
    (tmp_path / "key.bin").write_bytes(b"hush\xff")
    with pytest.raises(ConfigError, match=r"key\.bin is not text in UTF-8") as caught:
        load(write(KEY.format("file:key.bin")), {})
    assert "hush" not in str(caught.value)


def test_where_the_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home = tmp_path / "here", tmp_path / "config"
    here.mkdir()
    monkeypatch.chdir(here)
    env = {"XDG_CONFIG_HOME": str(home)}
    with pytest.raises(ConfigError, match="there is no configuration; looked for") as caught:
        find_config(env)
    mine, users = here / "gateway.toml", home / "inference-gateway" / "gateway.toml"
    assert f"{mine} and {users} (or set GATEWAY_CONFIG); `gateway devnet up` writes" in str(caught.value)
    users.parent.mkdir(parents=True)
    users.write_text("[gateway]\nstore = 'users'")
    assert find_config(env) == users
    mine.write_text("[gateway]\nstore = 'mine'")
    assert find_config(env) == mine
    named = tmp_path / "named.toml"
    with pytest.raises(ConfigError, match=r"GATEWAY_CONFIG names .*named\.toml, which is not a file"):
        find_config({"GATEWAY_CONFIG": str(named)})
    named.write_text("[gateway]\nstore = 'named'")
    assert find_config({"GATEWAY_CONFIG": str(named)}) == named
    assert load(env={"GATEWAY_CONFIG": str(named)}).gateway.store == "named"
    assert load(env={"GATEWAY_CONFIG": ""}).gateway.store == "mine"
    assert load(users, env={"GATEWAY_CONFIG": str(named)}).gateway.store == "users"


@pytest.mark.parametrize(
    ("store", "url"),
    [
        ("sqlite:///runs.db", "sqlite:///{}/runs.db"),
        ("sqlite:///deep/runs.db", "sqlite:///{}/deep/runs.db"),
        ("sqlite:////var/lib/runs.db", "sqlite:////var/lib/runs.db"),
        ("memory:", "memory:"),
        ("sqlite:///", "sqlite:///"),  # refused by make_store, as is anything else
        ("postgres://h/db", "postgres://h/db"),
    ],
)
def test_a_store_is_beside_its_configuration(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, url: str
) -> None:
    write(f"[gateway]\nstore = '{store}'")
    monkeypatch.chdir(tmp_path.parent)
    for path in (tmp_path / "gateway.toml", Path(tmp_path.name) / "gateway.toml"):
        assert make_store_url(load(path, {})) == url.format(tmp_path)


def test_without_a_word_the_store_is_in_the_state_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert make_store_url(load(write(""), {})) == f"sqlite:///{tmp_path}/state/inference-gateway/runs.db"


@pytest.mark.parametrize(
    ("platform", "env", "config", "state"),
    [
        ("linux", {}, "~/.config/{}", "~/.local/state/{}"),
        ("linux", {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}, "/c/{}", "/s/{}"),
        ("linux", {"XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": ""}, "~/.config/{}", "~/.local/state/{}"),
        ("darwin", {}, "~/Library/Application Support/{}", "~/Library/Application Support/{}"),
        ("darwin", {"XDG_STATE_HOME": "/s"}, "~/Library/Application Support/{}", "/s/{}"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/{0}/{0}", "/local/{0}/{0}"),
        ("win32", {}, "~/AppData/Local/{0}/{0}", "~/AppData/Local/{0}/{0}"),
    ],
)
def test_a_users_folders_are_where_the_platform_has_them(
    platform: str, env: dict[str, str], config: str, state: str
) -> None:
    for kind, wanted in (("config", config), ("state", state)):
        folder = Path(wanted.format(APP_NAME)).expanduser()
        assert find_user_folder(kind, env, platform) == folder  # type: ignore[arg-type]  # one of the two


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("15m", 900), ("2h", 7200), ("1d", 86400), (" 1.5 h ", 5400), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_duration(timedelta(seconds=seconds)) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value", ["", "30", "s", "-3s", "3 weeks", "1h30m", "1e3s", "3S", None, True, 3.5, "9" * 400 + "d"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|longer than any run"):
        parse_duration(value)


def test_money_is_read_from_text_alone() -> None:
    assert parse_money("1 USD") == parse_money(Money.parse("1 USD")) == Money(10**8, "USD")
    for value in (1, 0.5, None, ["1 USD"]):
        with pytest.raises(ValueError, match="is not an amount of money"):
            parse_money(value)


def test_limits_are_what_was_set_and_nothing_else(write: Write) -> None:
    text = "[gateway]\nmax_cost = '0.5 USD'\ndeadline = '2m'\nignore = ['b']"
    text += "\non_doubt = 'fail'\ndoubt_wait = '0s'"
    limits = load(write(text), {}).gateway.make_limits()
    assert limits == Limits(
        max_cost=Money.parse("0.5 USD"),
        deadline=timedelta(minutes=2),
        ignore=("b",),
        on_doubt="fail",
        doubt_wait=timedelta(0),
    )
    assert GatewaySettings().make_limits() == Limits()
