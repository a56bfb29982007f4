"""Processes of one store that sign with one key: no nonce twice, and none left lying."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.chain.fees import Fees
from gateway.chain.nonces import LaneKey, NonceInUse, NonceLane, NonceRow, NonceState
from gateway.chain.prepared import Prepared
from gateway.chain.shared_nonces import RECLAIM_AFTER, SharedNonceBook
from gateway.store.shelf import MemoryShelf, ShelfNotebook
from gateway.store.sqlite import SqliteStore
from gateway.testing import FakeClock

pytestmark = pytest.mark.anyio

KEY = LaneKey(31337, "0x00000000000000000000000000000000000000AA")


def make_prepared(nonce: int) -> Prepared:
    return Prepared(31337, KEY.address, nonce, f"0x{nonce:02x}", f"0xh{nonce}", 21000, Fees(10**30, 7))


def make_books(clock: FakeClock, count: int = 2, place: str = "nexus") -> list[SharedNonceBook]:
    notebook = ShelfNotebook(MemoryShelf(), "adapters")
    return [SharedNonceBook(notebook, place, clock) for _ in range(count)]


async def test_two_processes_never_get_one_nonce(tmp_path: Path) -> None:
    """Over a real store, at the same time."""
    stores = [SqliteStore(tmp_path / "runs.db") for _ in range(2)]
    for store in stores:
        await store.open()
    clock = FakeClock()
    books = [SharedNonceBook(ShelfNotebook(store.shelf, "adapters"), "nexus", clock) for store in stores]
    taken = await asyncio.gather(*(books[n % 2].allocate(KEY, f"act {n}", 5) for n in range(40)))
    assert sorted(taken) == list(range(5, 45))
    assert [row.nonce for row in await books[0].get_rows(KEY)] == sorted(taken)
    for store in stores:
        await store.aclose()


async def test_what_one_writes_the_other_reads() -> None:
    one, other = make_books(FakeClock())
    nonce = await one.allocate(KEY, "act", 0)
    row = NonceRow(nonce, "act", NonceState.SENT, make_prepared(nonce))
    await one.put(KEY, [row])
    assert await other.get_row(KEY, nonce) == row
    assert await other.allocate(KEY, "another", 0) == 1
    await other.give_back(KEY, 0)
    assert await one.get_free(KEY) == [0]
    await one.settle(KEY, 2)
    assert await other.get_rows(KEY) == []
    assert await other.allocate(KEY, "third", 0) == 2


async def test_what_a_dead_process_held_is_given_out_again() -> None:
    """Held and signed nonces that nobody sent, and no others; no gap stays."""
    clock = FakeClock()
    one, other = make_books(clock)
    for number, state in enumerate((NonceState.HELD, NonceState.SIGNED, NonceState.SENT)):
        nonce = await one.allocate(KEY, f"act {number}", 0)
        if state is not NonceState.HELD:
            await one.put(KEY, [NonceRow(nonce, f"act {number}", state, make_prepared(nonce))])
    await clock.sleep(RECLAIM_AFTER.total_seconds() - 1)
    assert await other.get_free(KEY) == []
    await clock.sleep(2)
    assert await other.get_free(KEY) == [0, 1]
    assert await other.allocate(KEY, "new", 0) == 0
    assert [row.nonce for row in await one.get_rows(KEY)] == [0, 2]


async def test_who_slept_too_long_can_not_sign_for_its_nonce() -> None:
    clock = FakeClock()
    one, other = make_books(clock)

    async def never(*_: object) -> None:
        raise AssertionError("the chain is not asked")

    sleeper = NonceLane(never, KEY, book=one, clock=clock)  # type: ignore[arg-type]  # it is not asked
    nonce = await one.allocate(KEY, "sleeper", 0)
    await clock.sleep(RECLAIM_AFTER.total_seconds() + 1)
    assert await other.allocate(KEY, "awake", 0) == nonce
    with pytest.raises(NonceInUse, match="another act"):
        await sleeper.write_signed(make_prepared(nonce), "sleeper")
    row = await other.get_row(KEY, nonce)
    assert row is not None
    assert (row.owner, row.state) == ("awake", NonceState.HELD)


async def test_chains_of_one_id_have_books_of_their_own() -> None:
    notebook = ShelfNotebook(MemoryShelf(), "adapters")
    one, other = (SharedNonceBook(notebook, place, FakeClock()) for place in ("here", "there"))
    assert await one.allocate(KEY, "act", 0) == 0
    assert await other.allocate(KEY, "act", 0) == 0
