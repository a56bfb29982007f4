"""What the disk allows: one thread, sqlite3, and so many rows in each commit. Words: path, commits, rows."""

from __future__ import annotations

import sqlite3
import sys
import time

from benchmarks.durability.drives.measure import tell


def main(path: str, commits: int, rows: int) -> None:
    """Measure; no JSON, no index, no queue."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE lines (id INTEGER PRIMARY KEY, body BLOB)")
    seconds, body = [], b"x" * 500
    began = time.perf_counter()
    for _ in range(commits):
        at = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO lines (body) VALUES (?)", [(body,)] * rows)
        db.execute("COMMIT")
        seconds.append(time.perf_counter() - at)
    seconds.sort()
    whole = time.perf_counter() - began
    tell({"rate": commits * rows / whole, "p50_ms": seconds[commits // 2] * 1e3, "p99_ms": seconds[-1] * 1e3})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
