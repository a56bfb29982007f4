"""The ids of runs."""

from __future__ import annotations

import secrets
from datetime import datetime

from gateway.types import RunId


def make_run_id(now: datetime) -> RunId:
    """Return an id that nobody else has, later ones being greater: milliseconds, then 80 bits of chance.

    A store keeps rows in the order of their ids. With ids in no order each new run would change a page of its
    own in every index, and all of these pages would have to be on the disk before its submission.
    """
    return RunId(f"run_{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}")
