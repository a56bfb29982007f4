"""A process whose disk is full, or read-only: what can't be written down is not sent; counted at the node."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_disk import Disk, mount_disk

from benchmarks.kill_matrix.cells import Found, look_up
from benchmarks.kill_matrix.kinds import Infernet
from benchmarks.kill_matrix.lanes import start
from benchmarks.kill_matrix.process import Orders, make_accounting
from gateway.store import make_store

pytestmark = pytest.mark.anyio

_PATIENCE_SECONDS = 90.0


@dataclass
class Place:
    """A node, and a store on a disk of its own."""

    node: Infernet
    disk: Disk
    folder: Path
    orders: Orders

    async def start(self, key: str) -> Process:
        """Make a call in a process of its own."""
        return await start(self.orders.model_copy(update={"key": key, "text": key}), self.folder)

    async def call(self, key: str) -> tuple[int | None, str]:
        """The same, to its end."""
        process = await self.start(key)
        return await finish(process)

    async def count(self) -> int:
        return (await self.node.count())[0]

    async def find(self, key: str) -> Found:
        store = make_store(self.orders.store)
        await store.open()
        try:
            return await look_up(store, key, make_accounting(self.node.currency))
        finally:
            await store.aclose()


async def finish(process: Process) -> tuple[int | None, str]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, errors.decode()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    @asynccontextmanager
    async def open_place() -> AsyncIterator[Place]:
        with mount_disk(tmp_path) as disk:
            async with Infernet.open() as node:
                yield Place(node, disk, tmp_path, node.make_orders(f"sqlite:///{disk.path / 'runs.db'}"))

    async with open_place() as place:
        yield place


def make_full(disk: Disk) -> None:
    disk.fill()


def make_read_only(disk: Disk) -> None:
    disk.set_writable(writable=False)


@pytest.mark.parametrize(
    ("strike", "mend", "says"),
    [
        pytest.param(make_full, Disk.free, "free some space", id="full"),
        pytest.param(
            make_read_only,
            lambda disk: disk.set_writable(writable=True),
            "readable and writable",
            id="read-only",
        ),
    ],
)
async def test_a_process_without_a_disk_sends_nothing_and_says_why(
    place: Place, strike: Callable[[Disk], None], mend: Callable[[Disk], None], says: str
) -> None:
    assert (await place.call("before"))[0] == 0
    strike(place.disk)
    code, errors = await place.call("then")
    assert code == 1
    assert says in errors
    assert await place.count() == 1
    mend(place.disk)
    assert (await place.call("then"))[0] == 0
    assert await place.count() == 2
    assert (await place.find("then")).told == "finished"


async def test_a_process_whose_disk_fills_up_while_its_job_runs_goes_on_by_itself(place: Place) -> None:
    assert (await place.call("before"))[0] == 0
    process = await place.start("x" * 5_000)  # whose end does not fit into what is left of the file
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while await place.count() < 2:  # noqa: ASYNC110  the node rings no bell
            await asyncio.sleep(0.01)
        place.disk.fill()
        await asyncio.sleep(3)  # the job takes a third of that
        assert process.returncode is None  # nobody is told what is not written down
        place.disk.free()
    assert (await finish(process))[0] == 0
    assert await place.count() == 2
    found = await place.find("x" * 5_000)
    assert (found.told, found.ends, found.is_booked) == ("finished", 1, True)
