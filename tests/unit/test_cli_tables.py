from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.tables import format_table
from gateway.cli.words import clean

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
