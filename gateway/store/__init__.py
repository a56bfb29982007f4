"""What survives a crash."""

from __future__ import annotations

from gateway.errors import ConfigError
from gateway.store.memory import MemoryStore
from gateway.store.protocol import Store


def make_store(url: str) -> Store:
    """Make the store that a URL names: "memory:" or "sqlite:///path". Raises ConfigError."""
    if url == "memory:":
        return MemoryStore()
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        from gateway.store.sqlite import SqliteStore

        return SqliteStore(url.removeprefix("sqlite:///"))
    raise ConfigError(f'gateway.store: {url!r} is not a store; write "sqlite:///runs.db" or "memory:"')
