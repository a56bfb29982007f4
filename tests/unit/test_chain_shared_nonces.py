"""Processes of one store that sign with one key: no nonce twice, and none left lying."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from gateway.chain.fees import Fees
from gateway.chain.nonces import LaneKey, NonceBook, NonceLane, NonceRow, NonceState, Pages, Signed
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


async def allocate(book: NonceBook, owner: str, chain_next: int) -> int:
    return await book.change(KEY, lambda pages: pages.allocate(owner, chain_next))


async def test_two_processes_never_get_one_nonce(tmp_path: Path) -> None:
    """Over a real store, at the same time."""
    stores = [SqliteStore(tmp_path / "runs.db") for _ in range(2)]
    for store in stores:
        await store.open()
    clock = FakeClock()
    books = [SharedNonceBook(ShelfNotebook(store.shelf, "adapters"), "nexus", clock) for store in stores]
    taken = await asyncio.gather(*(allocate(books[n % 2], f"act {n}", 5) for n in range(40)))
    assert sorted(taken) == list(range(5, 45))
    assert [row.nonce for row in await books[0].change(KEY, Pages.list_rows)] == sorted(taken)
    for store in stores:
        await store.aclose()


async def test_what_one_writes_the_other_reads() -> None:
    one, other = make_books(FakeClock())
    nonce = await allocate(one, "act", 0)
    row = NonceRow(nonce, "act", NonceState.SENT, make_prepared(nonce))
    await one.change(KEY, lambda pages: pages.put([row]))
    assert await other.change(KEY, lambda pages: pages.rows.get(nonce)) == row
    assert await allocate(other, "another", 0) == 1
    await other.change(KEY, lambda pages: pages.give_back(0))
    assert await one.change(KEY, lambda pages: sorted(pages.free)) == [0]
    await one.change(KEY, lambda pages: pages.settle(2))
    assert await other.change(KEY, Pages.list_rows) == []
    assert await allocate(other, "third", 0) == 2


async def test_what_a_dead_process_held_is_given_out_again() -> None:
    """Held and signed nonces that nobody sent, and no others; no gap stays."""
    clock = FakeClock()
    one, other = make_books(clock)
    for number, state in enumerate((NonceState.HELD, NonceState.SIGNED, NonceState.SENT)):
        nonce = await allocate(one, f"act {number}", 0)
        if state is not NonceState.HELD:
            row = NonceRow(nonce, f"act {number}", state, make_prepared(nonce))
            await one.change(KEY, partial(Pages.put, rows=[row]))
    await clock.sleep(RECLAIM_AFTER.total_seconds() - 1)
    assert await other.change(KEY, lambda pages: sorted(pages.free)) == []
    await clock.sleep(2)
    assert await other.change(KEY, lambda pages: sorted(pages.free)) == [0, 1]
    assert await allocate(other, "new", 0) == 0
    assert [row.nonce for row in await one.change(KEY, Pages.list_rows)] == [0, 2]


async def test_who_slept_too_long_can_not_sign_for_its_nonce() -> None:
    clock = FakeClock()
    one, other = make_books(clock)

    async def never(*_: object) -> None:
        raise AssertionError("the chain is not asked")

    sleeper = NonceLane(never, KEY, book=one, clock=clock)  # type: ignore[arg-type]  # it is not asked
    nonce = await allocate(one, "sleeper", 0)
    await clock.sleep(RECLAIM_AFTER.total_seconds() + 1)
    assert await allocate(other, "awake", 0) == nonce
    assert await sleeper.write_signed([Signed(make_prepared(nonce), "sleeper", "sleeper")]) == [False]
    await sleeper.give_back(nonce, holder="sleeper")  # that it is not its own any more is no harm
    row = await other.change(KEY, lambda pages: pages.rows.get(nonce))
    assert row is not None
    assert (row.owner, row.state) == ("awake", NonceState.HELD)


async def test_chains_of_one_id_have_books_of_their_own() -> None:
    notebook = ShelfNotebook(MemoryShelf(), "adapters")
    one, other = (SharedNonceBook(notebook, place, FakeClock()) for place in ("here", "there"))
    assert await allocate(one, "act", 0) == 0
    assert await allocate(other, "act", 0) == 0
