"""The page of results: each benchmark writes its own part, and leaves the others'."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environments import ROOT
from benchmarks.lost_answer.place import read_place

PAGE = ROOT / "docs" / "benchmarks.md"


def write_part(name: str, text: str, page: Path = PAGE) -> None:
    """Put a part in the place of its older self, or at the end; it is known by its marks."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    part = f"{begin}\n\n{text.strip()}\n\n{end}\n"
    whole = page.read_text(encoding="utf-8") if page.is_file() else "# Benchmarks\n"
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}\n", whole, re.DOTALL)
    before, after = (whole[: found.start()], whole[found.end() :]) if found else (whole.rstrip() + "\n\n", "")
    whole = before + part + after
    page.write_text(whole, encoding="utf-8")


def format_place(command: str, versions: Sequence[str] = ()) -> str:
    """Tell when, where and with what it was measured, and how to repeat it."""
    lines = [f"- {line}" for line in read_place(datetime.now(UTC).date()).lines]
    lines[-1] = lines[-1].replace("; the others' are in the table", "".join(f", {one}" for one in versions))
    load = f"- Load average at the end: {os.getloadavg()[0]:.1f}; above the number of cores, times suffer"
    return "\n".join([f"- Command: `{command}`", *lines, load])


def format_misses(misses: Sequence[str]) -> str:
    """Name the floors that were missed; nothing if none was."""
    return "Missed: " + "; ".join(misses) + "." if misses else "All floors were reached."
