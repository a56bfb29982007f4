"""The PostgreSQL store keeps the promises of every store."""

from __future__ import annotations

import pytest

from gateway.store.postgres import PostgresStore
from gateway.testing import StoreConformance
from gateway.testing.store import StoreMaker


class TestPostgresStore(StoreConformance):
    @pytest.fixture
    def make_store(self, postgres_url: str) -> StoreMaker:
        return lambda: PostgresStore(postgres_url)
