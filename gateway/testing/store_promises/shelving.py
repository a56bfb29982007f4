"""Promises of a store's shelf."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from gateway.errors import InvalidInput
from gateway.store.protocol import Store
from gateway.store.shelf import Note
from gateway.testing.case import expect
from gateway.testing.store_promises.samples import StoreMaker, expect_raises

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_LATER = _NOW + timedelta(minutes=1)


class Shelving:
    """What faces may rely on."""

    async def test_a_note_is_kept_and_replaced(self, store: Store, make_store: StoreMaker) -> None:
        """Shelf.put: the last note of a kind and id counts, and is there for whoever opens the store."""
        await store.shelf.put(Note(kind="key", id="b", body=b'"old"'))
        await store.shelf.put(Note(kind="key", id="b", body=b'"new"'))
        await store.shelf.put(Note(kind="key", id="a", body=b"1", due_at=_NOW))
        await store.shelf.put(Note(kind="other", id="b", body=b"2"))
        other = make_store()
        await other.open()
        notes = await other.shelf.list_notes("key")
        await other.aclose()
        kept = [Note(kind="key", id="a", body=b"1", due_at=_NOW), Note(kind="key", id="b", body=b'"new"')]
        expect(notes == kept, f"the notes are other ones: {notes}")

    async def test_a_removed_note_is_gone(self, store: Store) -> None:
        """Shelf.remove: whether or not it was there."""
        await store.shelf.put(Note(kind="key", id="a", body=b"1"))
        await store.shelf.remove("key", "a")
        await store.shelf.remove("key", "a")
        expect(await store.shelf.list_notes("key") == [], "a removed note is there")

    async def test_what_is_due_is_claimed_once(self, store: Store) -> None:
        """Shelf.claim: only what is due, the longest due first, and not again before `until`."""
        for number in range(4):
            due_at = _NOW - timedelta(seconds=number)
            await store.shelf.put(Note(kind="hook", id=str(number), body=b"0", due_at=due_at))
        await store.shelf.put(Note(kind="hook", id="later", body=b"0", due_at=_LATER))
        await store.shelf.put(Note(kind="hook", id="never", body=b"0"))
        await store.shelf.put(Note(kind="other", id="0", body=b"0", due_at=_NOW))
        first = await store.shelf.claim("hook", now=_NOW, until=_LATER, limit=3)
        got = [(note.id, note.due_at) for note in first]
        expect(got == [("3", _LATER), ("2", _LATER), ("1", _LATER)], f"the longest due are others: {got}")
        second = await store.shelf.claim("hook", now=_NOW, until=_LATER, limit=3)
        expect([note.id for note in second] == ["0"], "the fourth is another")
        third = await store.shelf.claim("hook", now=_NOW, until=_LATER, limit=3)
        expect(third == [], f"claimed twice, or not due: {third}")
        due = await store.shelf.claim("hook", now=_LATER, until=_LATER + timedelta(minutes=1), limit=9)
        expect({note.id for note in due} == {"0", "1", "2", "3", "later"}, "what is due again is missing")

    async def test_changes_follow_each_other(self, store: Store, make_store: StoreMaker) -> None:
        """Shelf.change: each of many sees what the one before left, and what raises changes nothing."""
        other = make_store()
        await other.open()

        def count(body: bytes | None) -> tuple[bytes, int]:
            number = int(body or b"0") + 1
            return str(number).encode(), number

        def refuse(_: bytes | None) -> tuple[bytes, int]:
            raise InvalidInput("no")

        doors = [store, other] * 10
        counted = await asyncio.gather(*(door.shelf.change("n", "a", count) for door in doors))
        expect(sorted(counted) == list(range(1, 21)), f"two changes saw the same: {sorted(counted)}")
        for name in ("a", "b"):
            await expect_raises(InvalidInput, other.shelf.change("n", name, refuse), "a refusal is no error")
        await other.aclose()
        expect(
            await store.shelf.list_notes("n") == [Note(kind="n", id="a", body=b"20")], "the count is wrong"
        )
