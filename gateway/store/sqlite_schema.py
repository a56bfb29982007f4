"""The tables of the SQLite store, and how an older file becomes a newer one."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path

from gateway.errors import StoreTooNew
from gateway.store.archive import get_end
from gateway.store.protocol import SCHEMA_VERSION
from gateway.store.sqlite_rows import load_run

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    status INTEGER NOT NULL,
    phase TEXT NOT NULL,
    model TEXT,
    backend TEXT,
    address TEXT,
    owner TEXT,
    fence INTEGER NOT NULL DEFAULT 1,
    cancel_requested_at REAL,
    accept_answer TEXT,
    idempotency_key TEXT,
    api_key TEXT,
    parent TEXT,
    ended_at REAL,
    unresolved INTEGER,
    task BLOB NOT NULL,
    plan BLOB,
    state BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS attempts (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    backend TEXT NOT NULL,
    model TEXT,
    created_at REAL NOT NULL,
    ended_at REAL,
    succeeded INTEGER,
    doubted INTEGER,
    seconds REAL,
    envelope BLOB,
    state BLOB NOT NULL,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (scope TEXT PRIMARY KEY, used TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pruned_keys (key TEXT PRIMARY KEY, run_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pruned_costs (
    day TEXT NOT NULL,
    backend TEXT NOT NULL,
    model TEXT NOT NULL,
    api_key TEXT NOT NULL,
    line BLOB NOT NULL,
    PRIMARY KEY (day, backend, model, api_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shelf (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    due_at REAL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
"""

_EVENTS_IN_LISTS = 5  # since this schema a row has all that happened at one time, by the last one's number
_FEW_INDEXES = 6  # since this schema there are those below; some others had the same names
_LATER_COLUMNS = ("api_key TEXT", "parent TEXT", "ended_at REAL", "unresolved INTEGER")  # than schema 1

# A change writes a page of every index that it touches. So an open run is in two, by its id and by its time,
# and enters the others once, at its end; what changes with every step is in none. Their conditions are
# repeated, word for word, in the queries that shall use them.
_INDEXES = """
CREATE UNIQUE INDEX IF NOT EXISTS runs_by_key ON runs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_open ON runs (created_at, owner) WHERE phase = 'running';
CREATE INDEX IF NOT EXISTS runs_ended ON runs (unresolved, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_ended_by_status ON runs (status, created_at) WHERE ended_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_ended_by_model ON runs (status, model, created_at)
    WHERE ended_at IS NOT NULL AND model IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_ended_by_backend ON runs (status, backend, created_at)
    WHERE ended_at IS NOT NULL AND backend IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_ended_by_api_key ON runs (status, api_key, created_at)
    WHERE ended_at IS NOT NULL AND api_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS shelf_due ON shelf (kind, due_at) WHERE due_at IS NOT NULL;
"""
_OWN_INDEXES = (
    "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('runs', 'attempts') AND sql <> ''"
)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring them up to date. Raises StoreTooNew if a newer program wrote them."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the store {path} has schema {version}, this program knows {SCHEMA_VERSION}: upgrade the gateway"
        )
    there = {name for _, name, *_ in db.execute("PRAGMA table_info(runs)")}
    if there:
        _change_runs(db, there, version)
    known = {name for _, name, *_ in db.execute("PRAGMA table_info(pruned_costs)")}
    if known and "api_key" not in known:
        db.execute("ALTER TABLE pruned_costs RENAME TO pruned_costs_3")
    for statement in f"{_TABLES}{_INDEXES}".split(";"):
        db.execute(statement)
    if known and "api_key" not in known:  # of schema 3: whose those were is not known any more
        db.execute("INSERT INTO pruned_costs SELECT day, backend, model, '', line FROM pruned_costs_3")
        db.execute("DROP TABLE pruned_costs_3")
    if there and version < _EVENTS_IN_LISTS:
        db.execute("UPDATE events SET event = CAST('[' || event || ']' AS BLOB)")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _change_runs(db: sqlite3.Connection, columns: Collection[str], version: int) -> None:
    """Give an older table its later columns, and make room for other indexes."""
    if version < _FEW_INDEXES:
        query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('runs', 'attempts')"
        for (index,) in db.execute(f"{query} AND sql IS NOT NULL").fetchall():  # those with SQL are ours
            db.execute(f"DROP INDEX {index}")
    for column in _LATER_COLUMNS:
        if column.split()[0] not in columns:
            db.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    if "ended_at" not in columns:
        _fill_ends(db)


def _fill_ends(db: sqlite3.Connection) -> None:
    """Write the columns of schema 3 from what the runs themselves say, one after the other."""
    for (run_id,) in db.execute("SELECT id FROM runs"):
        run = load_run(db, run_id)
        row = (run.parent, *get_end(run), run_id)
        db.execute("UPDATE runs SET parent = ?, ended_at = ?, unresolved = ? WHERE id = ?", row)
