"""The page of benchmarks keeps what the others wrote, and names what was missed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.library.__main__ import ALL, BARE, OURS
from benchmarks.library.__main__ import find_misses as find_library_misses
from benchmarks.page import write_part
from benchmarks.polling.__main__ import Case, Found
from benchmarks.polling.__main__ import find_misses as find_polling_misses


def test_each_part_is_replaced_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_part("one", "## One\n\nold", page)
    write_part("two", "## Two", page)
    write_part("one", "## One\n\nnew \\1", page)
    assert page.read_text() == (
        "# Benchmarks\n\n<!-- one -->\n\n## One\n\nnew \\1\n\n<!-- end of one -->\n\n"
        "<!-- two -->\n\n## Two\n\n<!-- end of two -->\n"
    )


def test_a_missed_floor_of_the_library_is_named() -> None:
    httpx = next(one for one in ALL if one.drive == "httpx_by_hand")
    cpus = {OURS.label: 0.35, BARE.label: 0.1}
    assert find_library_misses({OURS.label: 1000.0, httpx.label: 99.0}, cpus) == []
    assert "instead of 10" in find_library_misses({OURS.label: 1000.0, httpx.label: 101.0}, cpus)[0]
    assert "CPU" in find_library_misses({OURS.label: 1000.0}, cpus | {OURS.label: 0.5})[0]


def test_a_missed_floor_of_polling_is_named() -> None:
    alone, many = Case(0.05, 1, 10, 15), Case(0.05, 20, 100)
    assert (
        find_polling_misses([(alone, Found(15, 30), Found(950, 3)), (many, Found(99, 1), Found(9, 4))]) == []
    )
    misses = find_polling_misses([(alone, Found(16, 31), None), (many, Found(99, 1.1), Found(9, 4))])
    assert [miss.partition(": ")[2] for miss in misses] == [
        "16 ms late instead of 15",
        "31 requests a job instead of 30",
        "1.10 requests a job instead of 1.00",
    ]
