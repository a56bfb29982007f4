"""Tables that fit the terminal and lose no text: what is too wide is wrapped."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from gateway.cli.words import clean

_GAP = 2
_LEAST = 6


def get_width() -> int | None:
    """Return the terminal's width, or None where the output goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def format_table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """Return the table as text, without a newline at its end.

    Args:
        head: one title per column.
        rows: cells, as many as titles; written with `str`, None as "-".
        width: the most columns of the terminal it may take; None for as many as it likes. The first column
            is never wrapped: it is what people copy.
    """
    cells = [[clean(title) for title in head]]
    cells += [["-" if cell is None else clean(str(cell)) or "-" for cell in row] for row in rows]
    widths = _fit([max(map(len, column)) for column in zip(*cells, strict=True)], width)
    lines = [line for row in cells for line in _format_row(row, widths)]
    return "\n".join(lines)


def _fit(widths: list[int], most: int | None) -> list[int]:
    """Take from the widest columns, the first apart, until all fit (or none can give any more)."""
    widths = list(widths)
    while most is not None and sum(widths) + _GAP * (len(widths) - 1) > most:
        place = max(range(1, len(widths)), key=lambda at: widths[at], default=0)
        if widths[place] <= _LEAST or place == 0:
            break
        widths[place] -= 1
    return widths


def _format_row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    height = max(len(lines) for lines in wrapped)
    padded = [
        [line.ljust(width) for line in (*lines, *[""] * (height - len(lines)))]
        for lines, width in zip(wrapped, widths, strict=True)
    ]
    return [(" " * _GAP).join(line).rstrip() for line in zip(*padded, strict=True)]
