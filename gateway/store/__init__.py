"""What survives a crash."""

from __future__ import annotations

from gateway.errors import ConfigError
from gateway.store.memory import MemoryStore
from gateway.store.protocol import Store


def make_store(url: str) -> Store:
    """Make the store that a URL names: "memory:", "sqlite:///path" or "postgresql://...".

    Raises:
        ConfigError: it names none, or what the store needs is not installed.
    """
    if url == "memory:":
        return MemoryStore()
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        from gateway.store.sqlite import SqliteStore

        return SqliteStore(url.removeprefix("sqlite:///"))
    if url.startswith("postgresql://"):
        return _make_postgres_store(url)
    shown = f"{url.partition(':')[0]}:..." if "@" in url else url  # a password may be in it
    raise ConfigError(
        f'gateway.store: {shown!r} is not a store; write "sqlite:///runs.db", "memory:" or'
        ' "postgresql://user@host/database"'
    )


def _make_postgres_store(url: str) -> Store:
    try:
        from gateway.store.postgres import PostgresStore
    except ImportError as error:
        raise ConfigError(
            "gateway.store: a postgresql:// store needs psycopg 3, which can't be imported"
            f" ({error}); pip install 'inference-gateway[postgres]'"
        ) from error
    return PostgresStore(url)
