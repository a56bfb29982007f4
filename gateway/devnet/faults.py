"""What a stand-in can be told to do wrong, and the one protocol that every stand-in follows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.errors import InvalidInput
from gateway.types import JSON


class Fault(StrEnum):
    """A way in which a backend misbehaves. The stand-in's docstring says how each shows on its wire."""

    REFUSE = "refuse"  # nothing listens any more: connection refused
    ANSWER_LOST = "answer_lost"  # the request is carried out, then the connection is reset without an answer
    HANG = "hang"  # the request is read and never answered
    RATE_LIMIT = "rate_limit"  # 429, nothing is carried out
    SERVER_ERROR = "server_error"  # 500, nothing is carried out
    ERROR_AFTER = "error_after"  # the request is carried out, then answered with 500
    GARBAGE = "garbage"  # the request is carried out and answered with something that is not JSON
    CUT_STREAM = "cut_stream"  # a stream ends in the middle, without its last chunk
    STALL_STREAM = "stall_stream"  # a stream stays open and says nothing more
    FORGET = "forget"  # the backend restarts and has forgotten the jobs that were running


class Operation(StrEnum):
    """What a fault is armed for."""

    ANY = "any"
    SUBMIT = "submit"
    POLL = "poll"
    STREAM = "stream"
    CANCEL = "cancel"
    UPLOAD = "upload"


@dataclass(slots=True)
class _Armed:
    fault: Fault
    on: Operation
    times: int | None
    skip: int


@dataclass(slots=True)
class Faults:
    """The faults armed at one stand-in. A stand-in asks `take` at each place where it could fail."""

    _armed: list[_Armed] = field(default_factory=list)

    def arm(
        self, fault: Fault, *, on: Operation = Operation.ANY, times: int | None = 1, skip: int = 0
    ) -> None:
        """Let `fault` strike the next `times` such operations (None: all), after `skip` good ones."""
        self._armed.append(_Armed(fault, on, times, skip))

    def arm_word(self, fault: str, *, on: str | None = None, times: int | None = 1, skip: int = 0) -> None:
        """Arm what a terminal says. Raises InvalidInput with the nearest right word."""
        chosen = Fault(choose_word("fault", fault, tuple(Fault)))
        operation = Operation.ANY if on is None else Operation(choose_word("operation", on, tuple(Operation)))
        self.arm(chosen, on=operation, times=times, skip=skip)

    def take(self, on: Operation, *among: Fault) -> Fault | None:
        """Say which armed fault (only of `among`, if given) strikes this operation now, and use it up."""
        for armed in self._armed:
            if armed.on not in (Operation.ANY, on) or (among and armed.fault not in among):
                continue
            if armed.skip:
                armed.skip -= 1
                continue
            if armed.times is not None:
                armed.times -= 1
                if armed.times <= 0:
                    self._armed.remove(armed)
            return armed.fault
        return None

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()

    def describe(self) -> list[dict[str, JSON]]:
        """Return what is armed, for the control page."""
        return [
            {"fault": a.fault.value, "on": a.on.value, "times": a.times, "skip": a.skip} for a in self._armed
        ]


class Armory(Protocol):
    """The faults of a stand-in, as the control page arms them: by words."""

    def arm_word(self, fault: str, *, on: str | None = None, times: int | None = 1, skip: int = 0) -> None:
        """Arm what a terminal says. Raises InvalidInput with the nearest right word."""

    def clear(self) -> None:
        """Disarm everything."""

    def describe(self) -> list[dict[str, JSON]]:
        """Return what is armed."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One submission that a stand-in accepted: what a real backend would have billed."""

    job_id: str
    input: JSON
    at: float  # seconds since the epoch


class StandIn(Protocol):
    """A local server that behaves on the wire as one backend does."""

    name: str
    journal: list[Accepted]  # every accepted submission since the start, in order, re-runs included

    @property
    def faults(self) -> Armory:
        """What it is told to do wrong."""

    @property
    def url(self) -> str:
        """The base URL; stays the same over stop and start."""

    async def start(self) -> None:
        """Listen on loopback, on a free port the first time and on the same port afterwards."""

    async def stop(self) -> None:
        """Stop listening and drop all connections, as a killed process would."""

    async def restart(self) -> None:
        """Stop and start; running jobs are forgotten, finished ones survive (what the real node does)."""


def choose_word(what: str, word: str, known: Sequence[str]) -> str:
    """Return the word if it is known. Raises InvalidInput with the nearest right one."""
    if word in known:
        return word
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"did you mean {str(near[0])!r}?" if near else f"known: {', '.join(known)}"
    raise InvalidInput(f"there is no {what} {word!r} here; {hint}")
