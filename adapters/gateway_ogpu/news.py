"""A job's news as blocks bring them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from gateway.task import Handle, Snapshot

if TYPE_CHECKING:
    from gateway_ogpu.connection import Connection
    from gateway_ogpu.following import Following

_REST_SHARE, _LONGEST_REST_SECONDS = 0.1, 10.0  # between two looks: of the time that it is followed


async def follow(connection: Connection, following: Following, handle: Handle) -> AsyncIterator[Snapshot]:
    """Yield a job's snapshots as they change, to its end; those with answers that wait for a choice always.

    It is looked at when a new block is there: each, until its task is in one; then ever more rarely, as it
    takes longer. All jobs that are looked at in one moment share their questions. Raises as `Following.look`.
    """
    clock, began = connection.clock, connection.clock.monotonic()
    seen: Snapshot | None = None
    while True:
        now = (await following.look([handle])).get(handle)
        if now is not None and (now != seen or now.answers):
            seen = now
            yield now
            if now.status.is_final:
                return
        age = clock.monotonic() - began
        is_published = seen is not None and isinstance(seen.detail, dict) and "task" in seen.detail
        rest = min(age * _REST_SHARE, _LONGEST_REST_SECONDS) if is_published else 0.0
        await clock.sleep(connection.heads.get_wait(rest))
