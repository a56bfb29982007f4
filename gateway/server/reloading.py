"""A configuration in the place of another, while runs of the earlier one go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.client import AsyncGateway


def works_on(gateway: AsyncGateway, run_id: str) -> bool:
    """Say whether a gateway of this process works on a run."""
    return gateway._engine.get_live(run_id) is not None  # noqa: SLF001  only its own server asks this
