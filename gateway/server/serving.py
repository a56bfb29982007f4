"""Runs the application under uvicorn: binds, says where it listens, and ends in order."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from gateway.clock import SystemClock
from gateway.config import load
from gateway.errors import ConfigError
from gateway.server.app import App
from gateway.server.making import make_service
from gateway.server.service import Service


class _Server(uvicorn.Server):
    """Tells the service of the end before the connections are waited for: streams must end themselves."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear SIGINT and SIGTERM in the event loop; unlike uvicorn, don't raise them again in the end."""
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, self._stop, sig)
        try:
            yield
        finally:
            for sig in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(sig)

    def _stop(self, sig: int) -> None:
        self._service.stopping.set()
        self.handle_exit(sig, None)


async def serve(
    config_path: str | Path | None,
    *,
    host: str | None = None,
    port: int | None = None,
    say: Callable[[str], None],
) -> None:
    """Serve until a signal ends it. Raises ConfigError if it can't begin."""
    config = load(config_path)
    settings = config.server
    listening = bind(host or settings.host, settings.port if port is None else port)
    service = make_service(config, SystemClock())
    server = make_server(App(service), service)
    address, bound = listening.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    say(f"the gateway listens on http://{shown}:{bound}; Ctrl-C ends it")
    await server.serve([listening])


def make_server(app: App, service: Service) -> uvicorn.Server:
    """Make the server that runs an application."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(service.settings.shutdown_timeout.total_seconds())),
    )
    return _Server(config, service)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises ConfigError if the address can't be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, proto)
    except OSError as error:
        raise ConfigError(f"can't listen on {host}: {error.strerror}") from error
    if not ip_address(address[0]).is_loopback:
        listening.close()
        raise ConfigError(f"{host} is beyond this machine, and there is no API key: anybody could spend")
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise ConfigError(f"can't listen on {host}, port {port}: {error.strerror}") from error
    listening.setblocking(False)
    return listening
