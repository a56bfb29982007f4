from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.follow import format_runs
from gateway.cli.tables import format_table
from gateway.cli.words import clean
from gateway.engine.ids import make_run_id
from gateway.lifecycle import Status
from gateway.task import Run, Task

CELLS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60)


def test_columns_stand_under_their_titles() -> None:
    table = format_table(("name", "n"), [("a", 1), ("long name", None), ("", 22)])
    assert table.splitlines() == ["name       n", "a          1", "long name  -", "-          22"]


def test_a_table_without_rows_is_its_titles() -> None:
    assert format_table(("name", "n"), []) == "name  n"


def test_wide_cells_are_wrapped_and_the_first_column_is_not() -> None:
    table = format_table(("run", "why"), [("run_0123456789", "the connection was refused")], width=30)
    assert table.splitlines() == [
        "run             why",
        "run_0123456789  the connection",
        "                was refused",
    ]


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5), st.integers(90, 120))
def test_it_fits_and_loses_no_word(rows: list[tuple[str, str, str]], width: int) -> None:
    table = format_table(("one", "two", "three"), rows, width)
    assert all(len(line) <= width for line in table.splitlines())
    told = sorted("".join(table.split()))
    meant = sorted(
        "".join(clean(cell).replace(" ", "") or "-" for row in rows for cell in row) + "onetwothree"
    )
    assert told == meant


@given(st.text())
def test_a_cell_never_controls_the_terminal(text: str) -> None:
    table = format_table(("one", "two"), [("x", text)])
    assert all(line.isprintable() for line in table.split("\n"))
    assert table.count("\n") == 1


@pytest.mark.parametrize("text", ["\x1b[31mred\x1b[0m", "two\nlines", "\u202eright to left", "bell\a"])
def test_clean_leaves_words_on_one_line(text: str) -> None:
    assert clean(text).isprintable()


def test_runs_of_one_millisecond_can_be_told_apart_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.follow.get_width", lambda: 80)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [make_run_id(now) for _ in range(2)]
    while ids[0][:20] == ids[1][:20]:  # once in 65,536 times
        ids[1] = make_run_id(now)
    task = Task(model="m", input=1)
    runs = [
        Run(id=i, task=task, backend="auto", status=Status.RECEIVED, created_at=now, updated_at=now)
        for i in ids
    ]
    shown = [line.split()[0] for line in format_runs(runs).splitlines() if line.startswith("run_")]
    assert [run_id[: len(word)] for run_id, word in zip(ids, shown, strict=True)] == shown
    assert shown[0] != shown[1]
