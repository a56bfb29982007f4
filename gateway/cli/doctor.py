"""`gateway doctor`: is everything there, and does it fit together?"""

from __future__ import annotations

import argparse
import platform
import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Literal

from gateway.cli.exits import DONE, NO_BACKEND, WRONG
from gateway.cli.tables import format_table, get_width
from gateway.cli.words import format_json
from gateway.clock import SystemClock
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.config import Config

_PACKAGE = "inference-gateway"
_NEEDED = re.compile(r'([\w.-]+)[^;]*; extra == "([\w-]+)"')  # by an extra, on any machine and any Python
_OLDEST = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. `status` is the exit status that it asks for."""

    mark: Literal["ok", "note", "WRONG", "DOWN"]
    what: str
    detail: str

    @property
    def status(self) -> int:
        """Return the exit status."""
        return {"WRONG": WRONG, "DOWN": NO_BACKEND}.get(self.mark, DONE)


def add_arguments(_name: str, parser: argparse.ArgumentParser) -> None:
    """Take how to print."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call=doctor)


async def doctor(args: argparse.Namespace) -> int:
    """Look at everything, say each finding in a line, and exit 0 only if all is well."""
    findings = [finding async for finding in _examine(args.config)]
    if args.json:
        print(format_json([asdict(finding) for finding in findings]))
    else:
        rows = [(one.mark, one.what, one.detail) for one in findings]
        print(format_table(("", "what", "finding"), rows, get_width()).partition("\n")[2])
    statuses = {finding.status for finding in findings}
    return WRONG if WRONG in statuses else NO_BACKEND if NO_BACKEND in statuses else DONE


async def _examine(config_path: str | None) -> AsyncIterator[Finding]:
    for finding in (*_check_packages(), *_check_plugins()):
        yield finding
    from gateway.config import find_config, load

    try:
        path = find_config() if config_path is None else config_path
        config = load(path)
    except GatewayError as error:
        yield Finding("WRONG", "configuration", str(error))
        return
    told = f"{path}: {len(config.backends)} backends, {len(config.models)} models, all secrets are there"
    yield Finding("ok", "configuration", told)
    yield await _check_store(config)
    async for finding in _check_backends(config):
        yield finding


def _check_packages() -> Iterator[Finding]:
    good = sys.version_info[:2] >= _OLDEST
    yield Finding("ok" if good else "WRONG", "python", platform.python_version())
    core, extras = _list_required()
    names = [_PACKAGE, *core]
    found = {name: _find_version(name) for name in names}
    told = ", ".join(f"{name} {number or 'MISSING'}" for name, number in found.items())
    yield Finding("ok" if all(found.values()) else "WRONG", "packages", told)
    for extra, packages in extras.items():
        missing = [name for name in packages if _find_version(name) is None]
        hint = f"not installed: {', '.join(missing)}; pip install '{_PACKAGE}[{extra}]'"
        told = ", ".join(f"{name} {_find_version(name)}" for name in packages)
        yield Finding("note" if missing else "ok", f"extra {extra}", hint if missing else told)


def _list_required() -> tuple[list[str], dict[str, list[str]]]:
    """Return the packages that the core needs, and those of each extra, as the installation says."""
    try:
        lines = requires(_PACKAGE) or []
    except PackageNotFoundError:
        return [], {}
    extras: dict[str, list[str]] = {}
    for match in filter(None, map(_NEEDED.match, lines)):
        if match[1] != _PACKAGE:  # an extra of extras
            extras.setdefault(match[2], []).append(match[1])
    return sorted(re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line), extras


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_plugins() -> Iterator[Finding]:
    from gateway.registry import find_plugins, load_plugin

    points = find_plugins()
    if not points:
        yield Finding("WRONG", "adapters", "none is installed")
    for name, point in sorted(points.items()):
        plugin = load_plugin(point)
        told = plugin.origin if plugin.error is None else f"{plugin.origin} is broken: {plugin.error}"
        yield Finding("ok" if plugin.error is None else "WRONG", f"adapter {name}", told)


async def _check_store(config: Config) -> Finding:
    from gateway.config import make_store_url
    from gateway.lifecycle import Phase
    from gateway.store import hide_password, make_store
    from gateway.store.protocol import SCHEMA_VERSION, RunFilter

    try:
        url = make_store_url(config)
        store = make_store(url)
        await store.open()
        try:
            is_open = await store.list_runs(RunFilter(phase=Phase.RUNNING, limit=1000))
        finally:
            await store.aclose()
    except GatewayError as error:
        return Finding("WRONG", "store", str(error))
    told = f"{hide_password(url)}: writable, schema {SCHEMA_VERSION}, {len(is_open)} open runs"
    if url == "memory:":
        return Finding("note", "store", "memory: runs are forgotten when the process ends")
    return Finding("ok", "store", told)


async def _check_backends(config: Config) -> AsyncIterator[Finding]:
    from gateway.client import AsyncGateway
    from gateway.registry import make_adapters

    if not config.backends:
        yield Finding("WRONG", "backends", "none is configured")
        return
    try:
        adapters = make_adapters(config.backends, SystemClock())
        gateway = AsyncGateway(adapters.values(), config.models)
    except GatewayError as error:
        yield Finding("WRONG", "backends and models", str(error))
        return
    try:
        found = await gateway.backends()
    finally:
        await gateway.aclose()
    for name, facts in found.items():
        address, reason = adapters[name].address, facts.reason or ""
        told = ["" if reason.startswith(address) else address, facts.version or "", reason]
        mark: Literal["ok", "DOWN"] = "ok" if facts.healthy else "DOWN"
        yield Finding(mark, f"backend {name}", "  ".join(word for word in told if word))
