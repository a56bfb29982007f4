"""Adapters, found through the entry point group `gateway.adapters`: ours and strangers' by the same door."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gateway.adapter import Adapter
from gateway.clock import Clock
from gateway.config import BackendSettings, validate
from gateway.errors import AdapterBroken, ConfigError, GatewayError

GROUP = "gateway.adapters"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point: either a class, or the reason why there is none."""

    name: str
    origin: str  # the distribution and the object that it names
    adapter: type[Adapter[Any]] | None
    error: str | None = None


def find_plugins() -> dict[str, EntryPoint]:
    """Return what is installed, by name, without importing any of it."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load_plugin(point: EntryPoint) -> Plugin:
    """Import one adapter. A broken one is a report and not an exception."""
    origin = f"{point.dist.name if point.dist else 'unknown'}: {point.value}"
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001  a stranger's import may raise anything; it becomes the report
        return Plugin(point.name, origin, None, f"{type(error).__name__}: {error}")
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        return Plugin(point.name, origin, None, "it is not a subclass of gateway.adapter.Adapter")
    missing = [name for name in ("config_type", "target_type") if not hasattr(found, name)]
    if missing or found.__abstractmethods__:
        lacking = ", ".join([*missing, *sorted(found.__abstractmethods__)])
        return Plugin(point.name, origin, None, f"it lacks {lacking}")
    return Plugin(point.name, origin, found)


def get_adapter_type(name: str) -> type[Adapter[Any]]:
    """Return the adapter class of a name in the configuration.

    Raises:
        ConfigError: no such adapter is installed.
        AdapterBroken: it is, but it can't be loaded.
    """
    return _get_adapter_type(name, find_plugins())


def _get_adapter_type(name: str, points: Mapping[str, EntryPoint]) -> type[Adapter[Any]]:
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(sorted(points))}"
        raise ConfigError(f"there is no adapter {name!r}; {hint}")
    plugin = load_plugin(points[name])
    if plugin.adapter is None:
        raise AdapterBroken(f"the adapter {name!r} ({plugin.origin}) can't be used: {plugin.error}")
    return plugin.adapter


def make_adapters(backends: Mapping[str, BackendSettings], clock: Clock) -> dict[str, Adapter[Any]]:
    """Make every configured backend's adapter, without I/O. Raises ConfigError or AdapterBroken."""
    adapters: dict[str, Adapter[Any]] = {}
    points = find_plugins() if backends else {}  # once: it looks into every installed distribution
    for name, settings in backends.items():
        adapter_type = _get_adapter_type(settings.adapter, points)
        config = validate(adapter_type.config_type, settings.get_own_settings(), f"backends.{name}")
        try:
            adapters[name] = adapter_type(name, config, clock=clock)
        except GatewayError:
            raise
        except Exception as error:
            what = (
                f"the adapter {settings.adapter!r} broke while it was made: {type(error).__name__}: {error}"
            )
            raise AdapterBroken(f"backends.{name}: {what}") from error
    return adapters
