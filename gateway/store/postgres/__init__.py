"""Runs in a PostgreSQL database that many processes may share. Needs the extra [postgres]."""

from __future__ import annotations

from gateway.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
