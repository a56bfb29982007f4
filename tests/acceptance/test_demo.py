"""The demo, as a newcomer starts it."""

from __future__ import annotations

from pathlib import Path

from terminal import Terminal


def test_the_demo_shows_everything(tmp_path: Path) -> None:
    done = Terminal(tmp_path).type("demo")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind
    told = done.stdout
    assert "VADER is smart, handsome, and funny.        positive +0.8316   node1" in told
    assert "node1 then hosted" in told
    assert "IN DOUBT" in told
    assert "node1 then chain: +" in told
    assert "node1 then chain then node1: +" in told
    assert "Every step did what it said" in told

    table = told.partition("All runs of this demo:\n")[2].partition("\n\n")[0].splitlines()
    assert table[0].split() == ["run", "backend", "attempts", "statuses", "passed", "time", "cost"]
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table[1:]]
    assert all(len(row) == 6 for row in rows), rows
    assert all(row[0].startswith("run_") for row in rows)
    assert [row[1:3] for row in rows[:5]] == [
        ["node1", "1"],
        ["node1", "1"],
        ["node1", "1"],
        ["node1, hosted", "2"],
        ["hosted", "1"],
    ]
    ends = [row[3].split()[-1] for row in rows]
    assert (ends.count("FAILED"), ends.count("CANCELLED")) == (1, 1)
    assert ends.count("COMPLETED") == len(ends) - 2
    assert all(row[3].startswith("RECEIVED") for row in rows)
    assert rows[0][5] == "free"
    assert "0.002 USD" in rows[3][5]
