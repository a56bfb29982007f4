"""Runs the application under uvicorn: binds, says where it listens, reloads, and ends in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from gateway.clock import SystemClock
from gateway.config import Config, load
from gateway.errors import ConfigError
from gateway.server.app import App
from gateway.server.making import make_service
from gateway.server.noise import sum_up_warnings
from gateway.server.reloading import Reloader
from gateway.server.service import Service
from gateway.server.siblings import Siblings

_PARENT_SECONDS = 1.0
_NEW_OBJECTS = 10_000  # between two looks of the garbage collector; 700 of Python are less than a call makes


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
            loop.add_signal_handler(sig, self.stop, sig)
        try:
            yield
        finally:
            for sig in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(sig)

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Begin to end: nothing new is taken; a second SIGINT does not wait for what is under way."""
        self._service.stopping.set()
        self.handle_exit(sig, None)


async def serve(
    config_path: str | Path | None,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    fd: int | None = None,
    door: str | None = None,
    say: Callable[[str], None],
) -> None:
    """Serve until a signal ends it.

    Args:
        config_path: the configuration; found as `gateway.config.load` says if absent.
        host: where to listen; as configured if absent.
        port: on which port; as configured if absent.
        workers: how many processes share the port; this one is one of them.
        fd: a listening socket that this process was started with, instead of host and port.
        door: where it answers the other workers; see gateway.server.siblings.
        say: is told where it listens, once it takes requests.

    Raises:
        ConfigError: the configuration is wrong, or the address can't be had, or must not be.
        StoreError: the store can't be opened.
    """

    def read() -> Config:
        config = load(config_path)
        given = {"workers": workers} if workers else {}
        return config.model_copy(update={"server": config.server.model_copy(update=given)})

    config = read()
    settings = config.server
    service = make_service(config, SystemClock())
    if fd is None:
        listening = bind(host or settings.host, settings.port if port is None else port)
    else:
        listening = _take_over(fd)
    try:
        await service.start()
        check_reach(listening, is_open=service.keys.is_open)
        server = make_server(App(service), service)
        reloader = Reloader(service, config, read)
        if door is not None:
            service.siblings = Siblings(service, Path(door))
            await service.siblings.open()
        with _hear_hangup(service, reloader):
            if fd is not None:
                service.begin(_follow_parent(server, os.getppid()))
            gc.freeze()  # nearly all that is there by now stays: it need not be looked through even once
            gc.set_threshold(_NEW_OBJECTS)
            say(f"the gateway listens on {get_url(listening)}; Ctrl-C ends it")
            await server.serve([listening])
    finally:
        listening.close()
        await service.aclose()


def _take_over(fd: int) -> socket.socket:
    """Return the listening socket of that number. Raises ConfigError."""
    try:
        listening = socket.socket(fileno=fd)
    except OSError as error:
        message = f"there is no socket at the file descriptor {fd}: {error.strerror}"
        raise ConfigError(f"{message}; leave --fd to those who hand one over") from error
    return listening


@contextmanager
def _hear_hangup(service: Service, reloader: Reloader) -> Iterator[None]:
    """Read the configuration anew at each SIGHUP."""
    loop = asyncio.get_running_loop()

    async def reload() -> None:
        await reloader.reload()

    loop.add_signal_handler(signal.SIGHUP, lambda: service.begin(reload()))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _follow_parent(server: _Server, parent: int) -> None:
    """End when the process that started the workers is no more."""
    while os.getppid() == parent:  # noqa: ASYNC110  the system tells nobody
        await asyncio.sleep(_PARENT_SECONDS)
    server.stop()


def make_server(app: App, service: Service) -> _Server:
    """Make the server that runs an application."""
    sum_up_warnings()
    protocol: type[asyncio.Protocol] | str = "auto"
    with suppress(ModuleNotFoundError):  # httptools has no wheels for some systems
        from gateway.server.protocol import Protocol

        protocol = Protocol
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        proxy_headers=False,
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
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise ConfigError(f"can't listen on {host}, port {port}: {error.strerror}") from error
    listening.setblocking(False)
    return listening


def check_reach(listening: socket.socket, *, is_open: bool) -> None:
    """Raise ConfigError if others than this machine can reach a server that asks nobody for a key."""
    address = listening.getsockname()
    beyond = listening.family != socket.AF_UNIX and not ip_address(address[0]).is_loopback
    if beyond and is_open:
        raise ConfigError(
            f"{address[0]} is beyond this machine and there is no API key, so anybody could spend:"
            " make one with `gateway keys create NAME`"
        )


def get_url(listening: socket.socket) -> str:
    """Return the address of a listening socket as a URL."""
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
