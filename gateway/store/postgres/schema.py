"""The tables: those of the SQLite store in PostgreSQL's types, and one that says what was committed."""

from __future__ import annotations

from gateway.errors import StoreTooNew
from gateway.store.postgres.address import Address, Connection
from gateway.store.protocol import SCHEMA_VERSION

_LOCK = 0x67617465776179  # "gateway": whoever holds it may change the tables

_TABLES = """
CREATE TABLE gateway_schema (version INTEGER NOT NULL);
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    place BIGINT GENERATED ALWAYS AS IDENTITY,
    created_at DOUBLE PRECISION NOT NULL,
    status SMALLINT NOT NULL,
    phase TEXT NOT NULL,
    model TEXT,
    backend TEXT,
    address TEXT,
    owner TEXT,
    fence BIGINT NOT NULL DEFAULT 1,
    cancel_requested_at DOUBLE PRECISION,
    accept_answer TEXT,
    idempotency_key TEXT UNIQUE,
    api_key TEXT,
    parent TEXT,
    ended_at DOUBLE PRECISION,
    unresolved BOOLEAN,
    task BYTEA NOT NULL,
    plan BYTEA,
    state BYTEA NOT NULL
);
CREATE INDEX runs_by_time ON runs (created_at, place);
CREATE INDEX runs_by_model ON runs (model, created_at, place);
CREATE INDEX runs_by_backend ON runs (backend, created_at, place) WHERE backend IS NOT NULL;
CREATE INDEX runs_by_api_key ON runs (api_key, created_at, place) WHERE api_key IS NOT NULL;
CREATE INDEX runs_open ON runs (owner) WHERE phase = 'running';
CREATE INDEX runs_open_by_time ON runs (created_at, place) WHERE phase = 'running';
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX runs_ended_by_phase ON runs (phase, created_at, place) WHERE ended_at IS NOT NULL;
CREATE INDEX runs_ended_by_status ON runs (status, created_at, place) WHERE ended_at IS NOT NULL;
CREATE TABLE attempts (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    backend TEXT NOT NULL,
    model TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION,
    succeeded BOOLEAN,
    doubted BOOLEAN,
    seconds DOUBLE PRECISION,
    envelope BYTEA,
    state BYTEA NOT NULL,
    PRIMARY KEY (run_id, number)
);
CREATE INDEX attempts_by_time ON attempts (created_at);
CREATE INDEX attempts_ended ON attempts (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    event BYTEA NOT NULL,
    PRIMARY KEY (run_id, seq)
);
CREATE TABLE accounts (scope TEXT COLLATE "C" PRIMARY KEY, used NUMERIC NOT NULL);
CREATE TABLE owners (owner TEXT PRIMARY KEY, until DOUBLE PRECISION NOT NULL);
CREATE TABLE pruned_keys (key TEXT PRIMARY KEY, run_id TEXT NOT NULL);
CREATE TABLE pruned_costs (
    day TEXT COLLATE "C" NOT NULL,
    backend TEXT NOT NULL,
    model TEXT NOT NULL,
    api_key TEXT NOT NULL,
    line BYTEA NOT NULL,
    PRIMARY KEY (day, backend, model, api_key)
);
CREATE TABLE shelf (
    kind TEXT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    due_at DOUBLE PRECISION,
    PRIMARY KEY (kind, id)
);
CREATE INDEX shelf_due ON shelf (kind, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE writers (writer TEXT PRIMARY KEY, batch BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL);
"""

_MIGRATIONS: dict[int, str] = {
    4: """
ALTER TABLE pruned_costs ADD COLUMN api_key TEXT NOT NULL DEFAULT '';
ALTER TABLE pruned_costs ALTER COLUMN api_key DROP DEFAULT;
ALTER TABLE pruned_costs DROP CONSTRAINT pruned_costs_pkey;
ALTER TABLE pruned_costs ADD PRIMARY KEY (day, backend, model, api_key);
""",
    5: "UPDATE events SET event = '['::bytea || event || ']'::bytea",  # a row has all of one change
    6: "",  # of SQLite's indexes alone
    7: "",  # from now on a run's state may be compressed
}
"""By the version that they lead to, from the version before; the tables above are of the newest."""


async def migrate(connection: Connection, address: Address) -> None:
    """Make or change the tables, one process at a time. Raises StoreTooNew, and psycopg's errors."""
    async with connection.transaction():
        for limit in ("lock_timeout", "statement_timeout"):  # a large store takes its time
            await connection.execute(f"SET LOCAL {limit} = 0".encode())
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        found = await connection.execute("SELECT to_regclass('gateway_schema') IS NOT NULL")
        (is_there,) = await found.fetchone() or (False,)
        if not is_there:
            await _execute_all(connection, _TABLES)
            await connection.execute("INSERT INTO gateway_schema VALUES (%s)", (SCHEMA_VERSION,))
            return
        (version,) = await (await connection.execute("SELECT version FROM gateway_schema")).fetchone() or (0,)
        if version > SCHEMA_VERSION:
            raise StoreTooNew(
                f"the store {address} has schema {version}, this program knows {SCHEMA_VERSION}: upgrade"
                " the gateway"
            )
        for step in range(version + 1, SCHEMA_VERSION + 1):
            await _execute_all(connection, _MIGRATIONS[step])
        if version < SCHEMA_VERSION:
            await connection.execute("UPDATE gateway_schema SET version = %s", (SCHEMA_VERSION,))


async def _execute_all(connection: Connection, script: str) -> None:
    for statement in script.split(";"):
        if statement.strip():
            await connection.execute(statement.encode())
