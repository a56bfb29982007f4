"""The SQLite store keeps the promises of every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.store.sqlite import SqliteStore
from gateway.testing import StoreConformance
from gateway.testing.store import StoreMaker


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> StoreMaker:
        return lambda: SqliteStore(tmp_path / "runs.db")
