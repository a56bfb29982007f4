"""Adapters come through entry points; a broken one is a report and not a crash."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from gateway import registry
from gateway.adapter import Adapter
from gateway.config import BackendSettings
from gateway.errors import AdapterBroken, ConfigError
from gateway.registry import GROUP, Plugin, find_plugins, get_adapter_type, load_plugin, make_adapters
from gateway.testing import FakeAdapter, FakeClock

SOURCE = '''
from gateway.adapter import Adapter
from gateway.testing import FakeAdapter, FakeConfig

class Good(FakeAdapter):
    """It works."""

class Abstract(Adapter):
    config_type = FakeConfig

class HalfDone(Adapter):
    config_type = target_type = FakeConfig

class Stubborn(FakeAdapter):
    def __init__(self, name, config, **words):
        raise RuntimeError("I won't")

def function():
    """It is callable, but no class."""

a_string = "gateway_x:Adapter"
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "strangers.py").write_text(SOURCE)
    (tmp_path / "broken_syntax.py").write_text("def (")
    (tmp_path / "broken_import.py").write_text("import no_such_library_at_all")
    (tmp_path / "broken_start.py").write_text("raise ValueError('not today')")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("strangers", "broken_syntax", "broken_import", "broken_start"):
        sys.modules.pop(name, None)


def point(value: str, name: str = "stranger") -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def install(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """Let these be all that is installed."""
    found = [point(value, name) for name, value in points.items()]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: found if group == GROUP else [])


def test_ours_come_by_the_strangers_door() -> None:
    assert {"infernet", "inferencesh"} <= set(find_plugins())
    assert {p.name for p in entry_points(group=GROUP)} == set(find_plugins())
    for name in ("infernet", "inferencesh"):
        plugin = load_plugin(find_plugins()[name])
        assert plugin.error is None
        assert plugin.adapter is not None
        assert issubclass(plugin.adapter, Adapter)
        assert plugin.origin.startswith("inference-gateway: gateway_")


def test_finding_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, good="strangers:Good", bad="broken_start:X")
    assert set(find_plugins()) == {"good", "bad"}
    assert "strangers" not in sys.modules


def test_a_good_plugin_is_its_class() -> None:
    plugin = load_plugin(point("strangers:Good"))
    assert plugin.adapter is sys.modules["strangers"].Good
    assert plugin == Plugin("stranger", "unknown: strangers:Good", plugin.adapter, None)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("broken_import:X", "ModuleNotFoundError: No module named 'no_such_library_at_all'"),
        ("broken_syntax:X", "SyntaxError: "),
        ("broken_start:X", "ValueError: not today"),
        ("strangers:Missing", "AttributeError: "),
        ("strangers:function", "it is not a subclass of gateway.adapter.Adapter"),
        ("strangers:a_string", "it is not a subclass of gateway.adapter.Adapter"),
        ("strangers", "it is not a subclass of gateway.adapter.Adapter"),
        ("builtins:dict", "it is not a subclass of gateway.adapter.Adapter"),
        ("gateway.adapter:Adapter", "it lacks config_type, target_type, capabilities, poll, prepare"),
        ("strangers:HalfDone", "it lacks capabilities, poll, prepare, recover, submit"),
        ("strangers:Abstract", "it lacks target_type, capabilities, poll, prepare, recover, submit"),
    ],
)
def test_a_broken_plugin_is_a_report(value: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = load_plugin(point(value))
    assert plugin.adapter is None
    assert plugin.error is not None
    assert plugin.error.startswith(error)
    install(monkeypatch, stranger=value)
    with pytest.raises(AdapterBroken, match=r"the adapter 'stranger' \(unknown: .*\) can't be used: "):
        get_adapter_type("stranger")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("infernett", "did you mean 'infernet'?"),
        ("inference-sh", "did you mean 'inferencesh'?"),
        ("qwxyz", "installed: inferencesh, infernet"),
    ],
)
def test_an_unknown_adapter_names_the_nearest(name: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, infernet="strangers:Good", inferencesh="strangers:Good")
    with pytest.raises(ConfigError, match=f"there is no adapter '{name}'; ") as caught:
        get_adapter_type(name)
    assert str(caught.value).endswith(hint)


def test_adapters_are_made_of_their_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, good="strangers:Good")
    clock = FakeClock()
    settings = {
        name: BackendSettings.model_validate({"adapter": "good", "poll_many": many})
        for name, many in (("a", 1), ("b", 2))
    }
    adapters = make_adapters(settings, clock)
    assert list(adapters) == ["a", "b"]
    assert [(a.name, a.config.poll_many, a.clock is clock) for a in adapters.values()] == [
        ("a", 1, True),
        ("b", 2, True),
    ]
    assert all(isinstance(adapter, FakeAdapter) for adapter in adapters.values())


def test_what_is_installed_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    found = [point("strangers:Good", "good")]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: looks.append(group) or found)
    make_adapters({name: BackendSettings(adapter="good") for name in ("a", "b", "c")}, FakeClock())
    make_adapters({}, FakeClock())
    assert looks == [GROUP]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"poll_manny": 1}, "backends.node1: poll_manny is not a known key; did you mean 'poll_many'?"),
        ({"poll_many": "x"}, "backends.node1: poll_many: input should be a valid integer"),
    ],
)
def test_wrong_settings_name_their_place(
    settings: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, good="strangers:Good")
    with pytest.raises(ConfigError) as caught:
        make_adapters({"node1": BackendSettings.model_validate({"adapter": "good", **settings})}, FakeClock())
    assert str(caught.value).startswith(message)


def test_an_adapter_that_can_not_be_made_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, bad="strangers:Stubborn")
    with pytest.raises(AdapterBroken, match=r"backends\.node1: .*RuntimeError: I won't"):
        make_adapters({"node1": BackendSettings(adapter="bad")}, FakeClock())
