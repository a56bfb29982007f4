"""What several of the conformance tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from ogpu_setup import start_ogpu

from gateway.devnet.ogpu import OgpuDevnet


@pytest.fixture
async def ogpu() -> AsyncIterator[OgpuDevnet]:
    """Run OGPU's devnet, its first source answering at once."""
    async with start_ogpu() as ogpu:
        yield ogpu
