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
    raise ConfigError(
        f'gateway.store: {hide_password(url)!r} is not a store; write "sqlite:///runs.db", "memory:" or'
        ' "postgresql://user@host/database"'
    )


def hide_password(url: str) -> str:
    """Return a store's URL as it may be shown: without a password, wherever that may be in it."""
    place, at, rest = url.rpartition("@")
    scheme, slashes, user = place.partition("//")
    if at and not slashes:
        return f"{scheme.partition(':')[0]}:..."
    shown = f"{scheme}{slashes}{user.partition(':')[0]}@{rest}" if at else url
    return shown.partition("?")[0] if "://" in shown and not shown.startswith("sqlite:") else shown


def _make_postgres_store(url: str) -> Store:
    try:
        from gateway.store.postgres import PostgresStore
    except ImportError as error:
        raise ConfigError(
            "gateway.store: a postgresql:// store needs psycopg 3, which can't be imported"
            f" ({error}); pip install 'inference-gateway[postgres]'"
        ) from error
    return PostgresStore(url)
