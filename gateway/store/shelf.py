"""Small documents that faces keep beside the runs: API keys, webhooks that are still to be sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One document.

    Attributes:
        kind: what it is: "api_key", "webhook".
        id: its name among those of its kind.
        body: JSON text in UTF-8; it holds no secret in the clear.
        due_at: when it shall be looked at again, for those that `claim`; None for never.
    """

    kind: str
    id: str
    body: bytes
    due_at: datetime | None = None


class Shelf(Protocol):
    """Where notes lie. What returns has its effect on disk, if the store has one."""

    async def put(self, note: Note) -> None:
        """Write a note down, in the place of the one of its kind and id, if there is one."""

    async def list_notes(self, kind: str) -> list[Note]:
        """Return all notes of a kind, sorted by id."""

    async def claim(self, kind: str, *, now: datetime, until: datetime, limit: int) -> list[Note]:
        """Return notes that are due, the longest due first, and make them due again at `until`.

        Of several that claim at once, only one gets a note.
        """

    async def remove(self, kind: str, id: str) -> None:
        """Take a note away, if it is there."""

    async def change(self, kind: str, id: str, work: Callable[[bytes | None], tuple[bytes, T]]) -> T:
        """Let `work` make a note's new body from its old one (None: it is not there); return its result.

        Nobody else changes it meanwhile. `work` is quick, changes nothing else, and may be called again;
        if it raises, nothing has changed.
        """


class ShelfNotebook:
    """The notes of one kind, as adapters know them; see gateway.adapter.Notebook.

    By default those that all adapters of all processes share.
    """

    def __init__(self, shelf: Shelf, kind: str = "adapters") -> None:
        self._shelf, self._kind = shelf, kind

    async def change(self, name: str, work: Callable[[bytes | None], tuple[bytes, T]]) -> T:
        """See Notebook."""
        return await self._shelf.change(self._kind, name, work)


class MemoryShelf:
    """The shelf of a MemoryStore."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str], Note] = {}

    async def put(self, note: Note) -> None:
        """See Shelf."""
        self._notes[note.kind, note.id] = note

    async def list_notes(self, kind: str) -> list[Note]:
        """See Shelf."""
        return sorted((note for note in self._notes.values() if note.kind == kind), key=lambda note: note.id)

    async def claim(self, kind: str, *, now: datetime, until: datetime, limit: int) -> list[Note]:
        """See Shelf."""
        due = [
            (note.due_at, note)
            for note in self._notes.values()
            if note.kind == kind and note.due_at is not None and note.due_at <= now
        ]
        claimed = [replace(note, due_at=until) for _, note in sorted(due, key=lambda pair: pair[0])[:limit]]
        for note in claimed:
            self._notes[note.kind, note.id] = note
        return claimed

    async def remove(self, kind: str, id: str) -> None:
        """See Shelf."""
        self._notes.pop((kind, id), None)

    async def change(self, kind: str, id: str, work: Callable[[bytes | None], tuple[bytes, T]]) -> T:
        """See Shelf."""
        note = self._notes.get((kind, id))
        body, result = work(None if note is None else note.body)
        due_at = None if note is None else note.due_at
        self._notes[kind, id] = Note(kind=kind, id=id, body=body, due_at=due_at)
        return result
