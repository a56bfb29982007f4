"""A book of nonces that all processes of a store share, so that replicas with one key never collide.

A lane is one document in the store's notebook, changed by one process at a time. What was given out and is
not sent after a while belonged to a process that died in between: it is given out again. If that process only
slept, it finds its nonce taken and signs anew; and of two that sign for one nonce the chain takes one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from gateway.adapter import Notebook
from gateway.chain.nonces import LaneKey, NonceRow, NonceState, Pages
from gateway.chain.prepared import Prepared
from gateway.clock import Clock

T = TypeVar("T")
RECLAIM_AFTER = timedelta(seconds=20)
"""How long a nonce may stay without being sent. Signing and storing take a second or two; if its process died
in between, all later nonces wait until somebody uses it up."""


class SharedNonceBook:
    """A `NonceBook` in a store.

    Args:
        notebook: of the store.
        place: what tells this chain from others of the same id.
        clock: by whose time what was left lying is reclaimed.
    """

    def __init__(self, notebook: Notebook, place: str, clock: Clock) -> None:
        self._notebook, self._place, self._clock = notebook, place, clock

    async def change(self, key: LaneKey, work: Callable[[Pages], T]) -> T:
        """See `NonceBook.change`."""
        now = self._clock.now().timestamp()

        def turn(body: bytes | None) -> tuple[bytes, T]:
            pages, times = _decode(body)
            for nonce, row in sorted(pages.rows.items(), reverse=True):
                is_old = now - times.get(nonce, now) > RECLAIM_AFTER.total_seconds()
                if is_old and row.state is not NonceState.SENT:
                    pages.give_back(nonce)
                    del times[nonce]  # whoever gets it now has time of its own
            result = work(pages)
            return _encode(pages, {nonce: times.get(nonce, now) for nonce in pages.rows}), result

        return await self._notebook.change(f"nonces {key.chain_id} {key.address} {self._place}", turn)


def _encode(pages: Pages, times: dict[int, float]) -> bytes:
    rows = [
        {
            "nonce": row.nonce,
            "owner": row.owner,
            "state": row.state.value,
            "prepared": row.prepared.encode() if row.prepared else None,
            "since": times[row.nonce],
        }
        for row in pages.rows.values()
    ]
    document = {"following": pages.following, "free": sorted(pages.free), "rows": rows}
    return json.dumps(document).encode()


def _decode(body: bytes | None) -> tuple[Pages, dict[int, float]]:
    """Return a lane, and since when (seconds since 1970) each of its nonces is given out."""
    if body is None:
        return Pages(), {}
    document = json.loads(body)
    rows = {
        row["nonce"]: NonceRow(
            row["nonce"],
            row["owner"],
            NonceState(row["state"]),
            Prepared.parse(row["prepared"]) if row["prepared"] else None,
        )
        for row in document["rows"]
    }
    times = {row["nonce"]: row["since"] for row in document["rows"]}
    return Pages(document["following"], set(document["free"]), rows), times
