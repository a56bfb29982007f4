"""A store's URL is shown without its password."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load, make_store_url
from gateway.store import hide_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hush@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgresql://me:se@cret@one,two/db?sslmode=require", "postgresql://me@one,two/db"),
        ("postgresql://host/db?password=hush", "postgresql://host/db"),
        ("postgres:me:hush@host", "postgres:..."),
        ("sqlite:///what?.db", "sqlite:///what?.db"),
        ("memory:", "memory:"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_a_store_from_the_environment_is_in_no_repr(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[gateway]\nstore = "env:WHERE"\n')
    config = load(path, {"WHERE": "postgresql://me:hush@host/db"})
    assert make_store_url(config) == "postgresql://me:hush@host/db"
    assert "hush" not in repr(config)
