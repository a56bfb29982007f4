"""What every test stands on: httpx is httpx2 for respx, nothing leaves loopback, no environment leaks in."""

from __future__ import annotations

import importlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

httpx2.alias_httpx()  # respx patches `httpx`; from here on that name is httpx2
respx_mocks = importlib.import_module("respx.mocks")
respx_mocks.DEFAULT_MOCKER = respx_mocks.HTTPXMocker.name  # above the transport, whichever that is

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LOOPBACK = ("127.", "::1", "localhost")
_connect = socket.socket.connect


def _connect_on_loopback_only(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOOPBACK):
        raise AssertionError(f"a test tried to reach {address}")
    _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _connect_on_loopback_only)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in list(os.environ):
        ours = name.startswith(("GATEWAY_", "INFERENCE_", "INFERNET_", "OGPU_"))
        if ours or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
