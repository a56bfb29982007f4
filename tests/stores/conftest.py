"""A PostgreSQL server for the tests of a session, and a fresh schema in it for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from gateway.testing.postgres import LocalPostgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    with LocalPostgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: LocalPostgres) -> str:
    """Return the URL of a store without tables."""
    return postgres.make_url(f"test_{next(_numbers)}")
