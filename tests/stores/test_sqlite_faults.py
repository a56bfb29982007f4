"""The engine over a store that fails: nothing is sent that is not written down, and it goes on by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from small_disk import Disk, mount_disk

from gateway import AsyncGateway, Task
from gateway.errors import StoreError
from gateway.lifecycle import AttemptStatus, Status
from gateway.policy.budget import Accounting, Budget
from gateway.store.sqlite import SqliteStore
from gateway.testing import FakeAdapter, FakeClock
from gateway.types import Money

pytestmark = pytest.mark.anyio

PRICE = Money.parse("1 USD")
BIG = Task(model="m", input={"text": "x" * 20_000})


class Fault(ABC):
    """Something that happens to the file of a store, and can be mended."""

    says: str

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    async def strike(self) -> None: ...

    @abstractmethod
    async def mend(self) -> None: ...


class FullDisk(Fault):
    says = "full; free some space"

    async def strike(self) -> None:
        Disk(self.path.parent).fill()

    async def mend(self) -> None:
        Disk(self.path.parent).free()


class Locked(Fault):
    """By another process, in the middle of a transaction."""

    says = "locked; another program holds it"
    _HOLD = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None)"
    _HOLD += "; db.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.read()"

    async def strike(self) -> None:
        self._other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", self._HOLD, str(self.path)), stdin=PIPE, stdout=PIPE
        )
        assert self._other.stdout is not None
        await self._other.stdout.readline()

    async def mend(self) -> None:
        await self._other.communicate(b"")


class Corrupted(Fault):
    """All pages but the first are garbage; then the bytes come back."""

    says = "malformed; it is damaged.*restore a backup"

    async def strike(self) -> None:
        with sqlite3.connect(self.path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        self._whole = self.path.read_bytes()
        _overwrite(self.path, self._whole[:8192] + b"Z" * (len(self._whole) - 8192))

    async def mend(self) -> None:
        _overwrite(self.path, self._whole)


class Moved(Fault):
    says = "its file is gone; put it back"

    async def strike(self) -> None:
        self.path.rename(self.path.with_name("elsewhere"))

    async def mend(self) -> None:
        assert not self.path.exists()  # an empty one would have hidden that all runs are gone
        self.path.with_name("elsewhere").rename(self.path)


FAULTS = [FullDisk, Locked, Corrupted, Moved]


def _overwrite(file: Path, whole: bytes) -> None:
    with file.open("r+b") as writing:
        writing.write(whole)
        writing.truncate()


class Hooked(FakeAdapter):
    """Calls `hook` once, with what it was asked to do, when it has just done it."""

    hook: tuple[str, Callable[[], Awaitable[None]]] | None = None

    async def _run_hook(self, operation: str) -> None:
        if self.hook is not None and self.hook[0] == operation:
            work, self.hook = self.hook[1], None
            await work()

    async def prepare(self, *args: Any, **words: Any) -> Any:
        done = await super().prepare(*args, **words)
        await self._run_hook("prepare")
        return done

    async def submit(self, *args: Any) -> Any:
        done = await super().submit(*args)
        await self._run_hook("submit")
        return done

    async def poll(self, *args: Any) -> Any:
        done = await super().poll(*args)
        await self._run_hook("poll")
        return done


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    with ExitStack() as stack:
        on_own_disk = "FullDisk" in request.node.name or "read_only" in request.node.name
        yield stack.enter_context(mount_disk(tmp_path)) if on_own_disk else Disk(tmp_path)


@asynccontextmanager
async def open_gateway(
    path: Path, clock: FakeClock | None = None
) -> AsyncIterator[tuple[AsyncGateway, Hooked]]:
    clock = clock or FakeClock(settle_seconds=0.02)
    adapter = Hooked("a", clock=clock, price=PRICE)
    store = SqliteStore(path, timeout_seconds=0.05)
    budget = Budget(limit=Money.parse("100 USD"), per="total")
    gateway = AsyncGateway(
        [adapter],
        {"m": {"targets": {"a": {"app": "echo"}}}},
        store=store,
        clock=clock,
        accounting=Accounting((budget,)),
    )
    async with asyncio.timeout(120), gateway:
        yield gateway, adapter


async def wait_until(clock: Any, is_so: Callable[[], bool]) -> None:
    while not is_so():
        await clock.sleep(1)


async def check_books(gateway: AsyncGateway, runs: int) -> None:
    """Each run ended once, was sent once, and is paid for."""
    store = gateway._engine.store
    assert (await store.ledger.fetch_spent())["total|||"] == runs * PRICE.amount
    for run in await gateway.list_runs():
        events = await store.list_events(run.id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert sum(event.kind == "end" for event in events) == 1


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
async def test_what_cannot_be_written_down_is_not_sent(kind: type[Fault], disk: Disk) -> None:
    async with open_gateway(disk.path / "runs.db") as (gateway, adapter):
        fault = kind(disk.path / "runs.db")
        first = await gateway.submit(BIG)
        await gateway.wait(first.id)
        await fault.strike()
        for _ in range(3):
            with pytest.raises(StoreError, match=rf"runs\.db refused.*{fault.says}"):
                await gateway.submit(BIG)
        await adapter.clock.sleep(20)
        assert len(adapter.accepted) == 1
        await fault.mend()
        second = await gateway.run(BIG)
        assert second.status is Status.COMPLETED
        assert {run.id for run in await gateway.list_runs()} == {first.id, second.id}
        assert len(adapter.accepted) == 2
        await check_books(gateway, 2)


@pytest.mark.parametrize("operation", ["prepare", "submit", "poll"])
@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
async def test_a_run_under_way_goes_on_when_the_store_is_back(
    kind: type[Fault], operation: str, disk: Disk
) -> None:
    async with open_gateway(disk.path / "runs.db") as (gateway, adapter):
        fault, taken, struck = kind(disk.path / "runs.db"), asyncio.Event(), asyncio.Event()

        async def strike() -> None:
            await taken.wait()  # before that, submitting would be refused
            await fault.strike()
            struck.set()

        adapter.hook = operation, strike
        run = await gateway.submit(BIG)
        taken.set()
        await struck.wait()
        await adapter.clock.sleep(20)  # long enough for the job to end, if there is one
        assert len(adapter.accepted) == (0 if operation == "prepare" else 1)
        live = gateway._engine.get_live(run.id)
        assert live is not None
        assert not live.run.status.is_final  # nobody is told what is not written down
        await fault.mend()
        run = await gateway.wait(run.id)
        assert (run.status, run.output) == (Status.COMPLETED, BIG.input)
        assert len(adapter.accepted) == 1
        assert [attempt.status for attempt in run.attempts] == [AttemptStatus.SUCCEEDED]
        await check_books(gateway, 1)
    async with open_gateway(disk.path / "runs.db") as (again, _):
        assert (await again.get(run.id)).output == BIG.input


async def test_a_read_only_disk_is_said_and_waited_for(disk: Disk) -> None:
    path = disk.path / "runs.db"
    async with open_gateway(path) as (gateway, _):
        await gateway.run(BIG)
    disk.set_writable(writable=False)
    clock = FakeClock(settle_seconds=0.02)
    adapter = Hooked("a", clock=clock, price=PRICE)
    models = {"m": {"targets": {"a": {"app": "echo"}}}}
    gateway = AsyncGateway([adapter], models, store=f"sqlite:///{path}", clock=clock)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"runs\.db refused.*readable and writable"):
            await gateway.submit(BIG)
    assert adapter.accepted == []
    disk.set_writable(writable=True)
    async with asyncio.timeout(120):
        assert (await gateway.run(BIG)).status is Status.COMPLETED
    assert len(adapter.accepted) == 1
    await gateway.aclose()


async def test_a_connection_that_may_only_read_is_made_anew(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "runs.db") as (gateway, adapter):
        writer = gateway._engine.store._writer  # type: ignore[attr-defined]  # of this store
        await writer.call(lambda db: db.execute("PRAGMA query_only = ON").fetchall())
        with pytest.raises(StoreError, match=r"readonly.*readable and writable"):
            await gateway.submit(BIG)
        assert adapter.accepted == []
        assert (await gateway.run(BIG)).status is Status.COMPLETED


def rename_all(folder: Path, old: str, new: str) -> None:
    for file in list(folder.glob(f"{old}*")):
        file.rename(folder / file.name.replace(old, new, 1))


async def test_another_file_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "runs.db") as (gateway, adapter):
        rename_all(tmp_path, "runs.db", "old")
        other = SqliteStore(tmp_path / "runs.db")
        await other.open()
        with pytest.raises(StoreError, match="its file was replaced by another one; put it back"):
            await gateway.submit(BIG)
        assert adapter.accepted == []
        await other.aclose()
        rename_all(tmp_path, "runs.db", "other")
        rename_all(tmp_path, "old", "runs.db")
        assert (await gateway.run(BIG)).status is Status.COMPLETED


async def test_a_gateway_closes_over_a_store_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_gateway(tmp_path / "runs.db") as (gateway, _):
        await gateway.run(BIG)
        rename_all(tmp_path, "runs.db", "old")
    assert "the open runs could not be given back" in caplog.text
