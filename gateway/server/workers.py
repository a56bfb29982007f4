"""Several processes on one port, over one store: starts them, passes signals on, replaces those that die."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from gateway.config import load, make_store_url
from gateway.errors import ConfigError
from gateway.server.keys import list_keys
from gateway.server.serving import bind, check_reach, get_url
from gateway.store import make_store

_log = logging.getLogger("gateway.server")
_AGAIN_SECONDS = (0.5, 10.0)
_KILL_AFTER_SECONDS = 15.0


async def serve_many(
    config_path: str | Path | None,
    *,
    host: str | None,
    port: int | None,
    workers: int,
    more: Sequence[str] = (),
    say: Callable[[str], None],
) -> None:
    """Serve with so many processes until a signal ends them; each is started with `more` words as well.

    Raises ConfigError, StoreError.
    """
    config = load(config_path)
    url = make_store_url(config)
    if url == "memory:":
        raise ConfigError(
            'several workers share the store, and "memory:" can\'t be shared: set gateway.store'
        )
    listening = bind(host or config.server.host, config.server.port if port is None else port)
    store = make_store(url)
    await store.open()
    try:
        check_reach(listening, is_open=not await list_keys(store.shelf))
    finally:
        await store.aclose()
    words = ["serve", "--fd", str(listening.fileno()), "--workers", str(workers), *more]
    words += ["--config", str(config_path)] if config_path is not None else []
    folder = Path(mkdtemp(prefix="gateway-"))  # only this user may look into it
    seconds = config.server.shutdown_timeout.total_seconds() + _KILL_AFTER_SECONDS
    family = Family(words, listening, folder, seconds)
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sig, family.stop)
    loop.add_signal_handler(signal.SIGHUP, family.tell, signal.SIGHUP)
    say(f"the gateway listens on {get_url(listening)} with {workers} workers; Ctrl-C ends it")
    try:
        await asyncio.gather(*(family.keep_one(number + 1) for number in range(workers)))
    finally:
        listening.close()
        shutil.rmtree(folder, ignore_errors=True)


class Family:
    """The worker processes."""

    def __init__(self, words: Sequence[str], listening: socket.socket, folder: Path, seconds: float) -> None:
        """Make it without workers.

        Args:
            words: what each is started with.
            listening: the socket that they share.
            folder: where each listens for the others.
            seconds: how long one may take to end.
        """
        self._command = [sys.executable, "-m", "gateway", *words]
        self._fd = listening.fileno()
        self._folder = folder
        self._seconds = seconds
        self._workers: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()

    def tell(self, sig: signal.Signals) -> None:
        """Pass a signal on to every worker."""
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.send_signal(sig)

    def stop(self) -> None:
        """Let all of them end, and start none any more."""
        self._stopping.set()
        self.tell(signal.SIGTERM)

    async def keep_one(self, number: int) -> None:
        """Keep the worker of a number running, with another in its place if it dies, until all shall end."""
        wait = _AGAIN_SECONDS[0]
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            try:
                told = f"a worker has ended with status {await self._run_one(number)}"
            except OSError as error:  # the machine has no memory, process or file left just now
                told = f"a worker can't be started ({error})"
            if self._stopping.is_set():
                return
            lived = asyncio.get_running_loop().time() - began
            wait = _AGAIN_SECONDS[0] if lived > 60 else min(wait * 2, _AGAIN_SECONDS[1])
            _log.warning("%s; another one starts in %g s", told, wait)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _run_one(self, number: int) -> int:
        door = str(self._folder / f"{number}.sock")
        worker = await asyncio.create_subprocess_exec(*self._command, "--door", door, pass_fds=[self._fd])
        self._workers.add(worker)
        try:
            if self._stopping.is_set():
                worker.terminate()
            ending = asyncio.ensure_future(worker.wait())
            stopping = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            try:
                async with asyncio.timeout(self._seconds if self._stopping.is_set() else None):
                    return await ending
            except TimeoutError:
                worker.kill()
                return await worker.wait()
        finally:
            self._workers.discard(worker)
