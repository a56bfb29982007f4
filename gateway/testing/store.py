"""The suite that every store passes.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def make_store(self, tmp_path) -> StoreMaker:
            return lambda: MyStore(tmp_path / "runs")

`make_store` gives stores over the same, at first empty, data; they are opened and closed by the suite.
Each test's docstring says which promise of `gateway.store.protocol.Store` it holds.
It needs pytest, and anyio's plug-in for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from gateway.store.protocol import Store
from gateway.testing.store_promises.archiving import Archiving
from gateway.testing.store_promises.asking import Looking, Wishing
from gateway.testing.store_promises.keeping import Keeping
from gateway.testing.store_promises.owning import Owning
from gateway.testing.store_promises.queueing import Queueing
from gateway.testing.store_promises.samples import StoreMaker
from gateway.testing.store_promises.shelving import Shelving
from gateway.testing.store_promises.spending import Spending

__all__ = ["StoreConformance", "StoreMaker"]


class StoreConformance(Keeping, Queueing, Owning, Wishing, Looking, Spending, Archiving, Shelving):
    """Inherit it with one fixture: `make_store`."""

    pytestmark: ClassVar = [pytest.mark.anyio]

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, as the gateway does."""
        return "asyncio"

    @pytest.fixture
    async def store(self, make_store: StoreMaker) -> AsyncIterator[Store]:
        """Open a store for the length of a test."""
        store = make_store()
        await store.open()
        yield store
        await store.aclose()
