"""The store that forgets keeps the same promises while it lives."""

from __future__ import annotations

import pytest

from gateway.store.memory import MemoryStore
from gateway.testing import StoreConformance
from gateway.testing.store import StoreMaker


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def make_store(self) -> StoreMaker:
        shared = MemoryStore()
        return lambda: shared
