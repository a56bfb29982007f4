"""The stand-ins that run together, by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from gateway.devnet.faults import Fault, StandIn
from gateway.errors import UnknownBackend
from gateway.types import JSON


@runtime_checkable
class Refreshed(Protocol):
    """A stand-in whose journal is not written down as it happens."""

    async def refresh(self) -> None:
        """Bring the journal up to date."""


class Network:
    """Several stand-ins, each of which can be stopped, started and made to misbehave."""

    def __init__(self, stand_ins: Sequence[StandIn]) -> None:
        self._stand_ins = {stand_in.name: stand_in for stand_in in stand_ins}
        self._up: set[str] = set()

    def get(self, name: str | None) -> StandIn:
        """Return one of them. Raises UnknownBackend with the nearest right name."""
        if name not in self._stand_ins:
            near = difflib.get_close_matches(str(name), self._stand_ins, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self._stand_ins)}"
            raise UnknownBackend(f"the devnet has no {name!r}; {hint}")
        return self._stand_ins[name]

    async def start(self, name: str | None = None) -> None:
        """Start one, or all. Raises OSError if a port is taken."""
        for each in self._list(name):
            if each.name not in self._up:
                await each.start()
                self._up.add(each.name)

    async def stop(self, name: str | None = None) -> None:
        """Take one away as if it were killed, or all: those that were started last first."""
        for each in reversed(self._list(name)):
            if each.name in self._up:
                self._up.discard(each.name)
                await each.stop()

    async def restart(self, name: str | None = None) -> None:
        """Restart one, or all; what was running there is forgotten."""
        for each in self._list(name):
            await each.restart()
            self._up.add(each.name)

    async def arm(
        self, name: str, fault: str, *, on: str | None = None, times: int | None = 1, skip: int = 0
    ) -> None:
        """Let one misbehave; "refuse" is what a stopped one does, so it stops it.

        Raises UnknownBackend, or InvalidInput for a word that this one does not know.
        """
        stand_in = self.get(name)
        if fault == Fault.REFUSE:
            await self.stop(name)
        else:
            stand_in.faults.arm_word(fault, on=on, times=times, skip=skip)

    async def refresh(self) -> None:
        """Let those that read their journal from elsewhere do so."""
        for each in self._stand_ins.values():
            if isinstance(each, Refreshed):
                await each.refresh()

    def clear(self, name: str | None = None) -> None:
        """Disarm the faults of one, or of all."""
        for each in self._list(name):
            each.faults.clear()

    def describe(self) -> list[dict[str, JSON]]:
        """Return name, url, whether it is up, armed faults and the number of accepted submissions of each."""
        return [
            {
                "name": each.name,
                "url": each.url,
                "up": each.name in self._up,
                "faults": each.faults.describe(),
                "accepted": len(each.journal),
            }
            for each in self._stand_ins.values()
        ]

    def list_accepted(self) -> list[dict[str, JSON]]:
        """Return every accepted submission of all, oldest first: what real backends would have billed."""
        lines = [
            {"backend": each.name, "job_id": line.job_id, "input": line.input, "at": line.at}
            for each in self._stand_ins.values()
            for line in each.journal
        ]
        return sorted(lines, key=lambda line: line["at"])

    def _list(self, name: str | None) -> list[StandIn]:
        return list(self._stand_ins.values()) if name is None else [self.get(name)]
