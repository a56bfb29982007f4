"""Accepting an answer, where the backend wants that: an act like a submission, stored before it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from gateway.adapter import Adapter, Landed, NotLanded, Recovery
from gateway.clock import Clock
from gateway.engine.journal import Journal, get_attempt
from gateway.engine.live import Live
from gateway.engine.seam import ask
from gateway.engine.waits import keep_writing
from gateway.errors import BackendError
from gateway.observe.observer import calling
from gateway.policy.choice import choose_answer
from gateway.task import Answer, Envelope, Handle, Snapshot

_PREPARE_SECONDS, _SUBMIT_SECONDS, _LOOK_SECONDS = 600.0, 120.0, 60.0

Chooser: TypeAlias = Callable[[Sequence[Answer]], Answer | None]


@dataclass(slots=True)
class Accepting:
    """Accepts answers, each once."""

    journal: Journal
    clock: Clock

    async def consider(self, live: Live, adapter: Adapter[Any], snapshot: Snapshot) -> None:
        """Accept one of a job's answers, if one is to be accepted now and none is yet.

        Raises BackendError when that can't be done now; the next look comes back here.
        """
        attempt = get_attempt(live)
        if live.accepted or not snapshot.answers or attempt.handle is None:
            return
        envelope = attempt.accept
        if envelope is None:
            chosen = self._choose(live, snapshot)
            if chosen is None:
                return
            one = replace(snapshot, answers=(chosen,))
            async with asyncio.timeout(_PREPARE_SECONDS):
                envelope = await ask(Envelope, adapter.accept, attempt.handle, one)
            await self._store(live, envelope)
        elif not live.accepting:
            # Stored by a process that died, or sent with its answer lost: ask before anything is sent again.
            async with asyncio.timeout(_LOOK_SECONDS):
                found = await ask(Recovery, adapter.recover, envelope)
            if isinstance(found, Landed):
                live.accepted = True
                return
            if not isinstance(found, NotLanded):
                return
            if found.final:
                await self._store(live, None)
                return
        await self._send(live, adapter, envelope)

    async def settle(self, live: Live, adapter: Adapter[Any], snapshot: Snapshot) -> Snapshot:
        """Return a final snapshot with what an acceptance has cost that another process sent.

        The adapter finds out what became of it, and looks at the job again. Raises BackendError when that
        can't be done now.
        """
        attempt = get_attempt(live)
        if live.accepted or attempt.accept is None or attempt.handle is None:
            return snapshot
        async with asyncio.timeout(_LOOK_SECONDS):
            await ask(Recovery, adapter.recover, attempt.accept)
            live.accepted = True
            seen = await ask(Mapping, adapter.poll, [attempt.handle])
        return seen.get(attempt.handle, snapshot)

    def _choose(self, live: Live, snapshot: Snapshot) -> Answer | None:
        if live.choose is not None and live.run.accept_answer is None:
            return live.choose(snapshot.answers)
        most = get_attempt(live).cost.reserved
        return choose_answer(snapshot.answers, live.run.task.accept, live.run.accept_answer, most)

    async def _send(self, live: Live, adapter: Adapter[Any], envelope: Envelope) -> None:
        await self.journal.confirm(live)
        if not live.has_landed:
            return  # it was cancelled meanwhile, or its deadline has passed
        live.accepting = True
        try:
            with calling(self.journal.observer, envelope.backend, "accept", (live.run,)):
                async with asyncio.timeout(_SUBMIT_SECONDS):
                    await ask(Handle, adapter.submit, envelope)
            live.accepted = True
        except BackendError as error:
            if error.landed is False and not error.here:
                await self._store(live, None)  # refused for good: another answer may be chosen
            raise
        finally:
            live.accepting = False

    async def _store(self, live: Live, envelope: Envelope | None) -> None:
        async def write() -> None:
            async with live.changing:
                if live.has_landed:
                    await self.journal.save(live, attempt=get_attempt(live).replace(accept=envelope))

        await keep_writing(write, self.clock)
