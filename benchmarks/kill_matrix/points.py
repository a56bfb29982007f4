"""Where a process is killed: each step between a call and its recorded result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class At(StrEnum):
    """Who strikes: the process itself at one of its own calls, or the wire that its request is on."""

    STORE_BEFORE = "store before"  # what is about to be written is not
    STORE_AFTER = "store after"  # it is on the disk, and nobody heard of it
    LOOK = "look"  # the backend's news are there, and nobody saw them
    WIRE_LOST = "wire lost"  # the request left, the process dies, the request never arrives
    WIRE_LATE = "wire late"  # the request left, the process dies, then the request arrives
    WIRE_ANSWERED = "wire answered"  # the backend carried it out, the process dies before it hears so


class Write(StrEnum):
    """What is written into the store, by what it changes."""

    RUN = "run"
    ENVELOPE = "envelope"
    HANDLE = "handle"
    SNAPSHOT = "snapshot"
    ACCEPT = "accept envelope"
    END = "end"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the matrix.

    Attributes:
        at: who strikes.
        write: at which write, if it is one; the first of its kind.
        nth: at which submission on the wire: 1 starts the job, 2 accepts its answer.
    """

    at: At
    write: Write | None = None
    nth: int = 1

    @property
    def name(self) -> str:
        """Say it in words."""
        if self.write is not None:
            return f"{'before' if self.at is At.STORE_BEFORE else 'after'} the {self.write} is stored"
        if self.at is At.LOOK:
            return "while polling"
        act = "submission" if self.nth == 1 else "acceptance"
        how = {
            At.WIRE_LOST: "sent, never arrives",
            At.WIRE_LATE: "sent, arrives after the death",
            At.WIRE_ANSWERED: "carried out, its answer lost",
        }
        return f"{act} {how[self.at]}"

    @property
    def needs_accepting(self) -> bool:
        """Say whether only a backend whose answers want accepting comes here."""
        return self.write is Write.ACCEPT or self.nth > 1


_WIRE = (At.WIRE_LOST, At.WIRE_LATE, At.WIRE_ANSWERED)


def _around(write: Write) -> tuple[Point, Point]:
    return Point(At.STORE_BEFORE, write), Point(At.STORE_AFTER, write)


POINTS: tuple[Point, ...] = (
    *_around(Write.RUN),
    *_around(Write.ENVELOPE),
    *(Point(at) for at in _WIRE),
    *_around(Write.HANDLE),
    Point(At.LOOK),
    *_around(Write.SNAPSHOT),
    *_around(Write.ACCEPT),
    *(Point(at, nth=2) for at in _WIRE),
    *_around(Write.END),
)
