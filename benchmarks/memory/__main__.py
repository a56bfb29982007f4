"""Measure how much memory an idle gateway takes, before and after work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environments import LITELLM, OPENAI, NotInstalledError, run_script
from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part
from benchmarks.serving import serve_mock

COMMAND = "python -m benchmarks.memory"
IDLE_FLOOR_MB = 60.0
_DRIVES = Path(__file__).parent / "drives"
_MANY = 5000
_IDLE = "this gateway, open with its store, before any run"

_ABOUT = """\
## Memory

The resident set of a process that has the library open, with everything that it loaded; once each.
"""


def main() -> int:
    """Measure, print and write; 1 if the floor is missed."""
    rows: list[tuple[str, float]] = [
        ("Python alone", run_script(sys.executable, _DRIVES / "module.py")["mb"]),
    ]
    with serve_mock() as mock:
        for label, count in ((_IDLE, 0), (f"the same after {_MANY:,} runs", _MANY)):
            rows.append((label, run_script(sys.executable, _DRIVES / "ours.py", mock.url, count)["mb"]))
    for environment in (OPENAI, LITELLM):
        try:
            python = environment.install()
        except NotInstalledError as error:
            print(error, file=sys.stderr)
            continue
        found = run_script(python, _DRIVES / "module.py", environment.name)["mb"]
        rows.append((f"{environment.name}, imported only", found))
    text = format_part(rows)
    print(text)
    write_part("memory", text)
    return 1 if find_misses(rows) else 0


def find_misses(rows: Sequence[tuple[str, float]]) -> list[str]:
    """Return the floors that were missed."""
    idle = dict(rows)[_IDLE]
    return [f"{idle:.0f} MB idle instead of {IDLE_FLOOR_MB:g}"] if idle > IDLE_FLOOR_MB else []


def format_part(rows: Sequence[tuple[str, float]]) -> str:
    """Return the part of the page."""
    table = format_table(["what", "MB"], [[label, f"{mb:.0f}"] for label, mb in rows])
    floor = f"Floor for the idle gateway: {IDLE_FLOOR_MB:g} MB."
    place = format_place(COMMAND, ["openai 3.51.0", "litellm 1.106.2"])
    return "\n\n".join([_ABOUT.strip(), table, floor, format_misses(find_misses(rows)), place])


if __name__ == "__main__":
    sys.exit(main())
