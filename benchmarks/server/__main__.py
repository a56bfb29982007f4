"""Measure calls through `gateway serve` beside proxies that store nothing."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.environments import NotInstalledError
from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part
from benchmarks.server.contestants import (
    CHAT_PATH,
    LITELLM,
    NGINX,
    OURS,
    PORTKEY_GATEWAY,
    STARLETTE_HTTPX,
    make_body,
)
from benchmarks.server.disk import measure_sync_ms
from benchmarks.server.load import get_loader, load
from benchmarks.server.running import pin_others, run_contestant
from benchmarks.serving import serve_mock

COMMAND = "python -m benchmarks.server"
CONNECTIONS = 50
ADDED_FLOOR_MS = 0.4
ALL = (OURS, LITELLM, PORTKEY_GATEWAY, STARLETTE_HTTPX, NGINX)
DIRECT = "the mock itself"

_ABOUT = f"""\
## The server: OpenAI's chat completions, {CONNECTIONS} connections

A call is one chat completion. The server under test has a core of its own; the mock and the loader have the
other one. All keep connections alive; they work in turn (A B A B), each started anew in each turn and warmed
up; the figures are medians of the turns. The CPU time is that of all the server's processes and threads: it
depends less on what else the machine does. "Added" is what the server adds to the median time of a call when
there is one at a time.

This gateway does more: each call is a job of an Infernet node, submitted and then looked at, two requests
for the others' one (though jobs that come together share theirs); and it is on disk, with fsync, before it is
sent, when it has landed, and when it has ended. The others keep nothing. None of them asks for a key, logs
requests, or traces.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """The medians of one contestant: calls a second, CPU ms a call, ms of a lone call, failed calls."""

    rate: float
    cpu_ms: float
    alone_ms: float
    failed: float


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement")
    parser.add_argument("--only", nargs="*", default=(), help="beginnings of labels")
    args = parser.parse_args()
    pin_others()
    found, missing = measure(args.turns, args.seconds, args.only)
    misses = find_misses(found)
    text = format_part(found, [*misses, *missing])
    print(text)
    if not args.only:
        write_part("server", text)
    return 1 if misses else 0


def measure(turns: int, seconds: float, only: Iterable[str] = ()) -> tuple[dict[str, Found], list[str]]:
    """Return each contestant's medians, and who is not there."""
    chosen = [one for one in ALL if not only or one.label.startswith(tuple(only))]
    turns_of = defaultdict[str, list[Found]](list)
    missing: dict[str, str] = {}
    with serve_mock() as mock:
        for _ in range(turns):
            alone = load(mock.url + CHAT_PATH, {}, make_body("echo"), 1, seconds / 3)
            many = load(mock.url + CHAT_PATH, {}, make_body("echo"), CONNECTIONS, seconds / 3)
            turns_of[DIRECT].append(Found(many.rate, 0.0, alone.p50_ms, many.failed))
            for one in chosen:
                if one.label in missing:
                    continue
                try:
                    with run_contestant(one, mock.url, "echo") as running:
                        call = (running.url, running.headers, make_body("echo"))
                        load(*call, CONNECTIONS, seconds / 3)
                        cpu = running.get_cpu_seconds()
                        many = load(*call, CONNECTIONS, seconds)
                        cpu = running.get_cpu_seconds() - cpu
                        alone = load(*call, 1, seconds / 3)
                except NotInstalledError as error:
                    missing[one.label] = str(error)
                    continue
                turn = Found(many.rate, cpu / max(1, many.count) * 1e3, alone.p50_ms, many.failed)
                turns_of[one.label].append(turn)
                print(f"{one.label}: {turn}", file=sys.stderr, flush=True)
    return {label: _get_median(found) for label, found in turns_of.items()}, list(missing.values())


def _get_median(found: list[Found]) -> Found:
    return Found(
        median(one.rate for one in found),
        median(one.cpu_ms for one in found),
        median([one.alone_ms for one in found if one.alone_ms] or [0.0]),  # 0: not one answer in its time
        median(one.failed for one in found),
    )


def find_misses(found: Mapping[str, Found]) -> list[str]:
    """Return the floors that were missed."""
    ours = found[OURS.label]
    misses = [
        f"{ours.rate / found[one.label].rate:.1f} times {one.label} instead of {one.floor:g}"
        for one in ALL
        if one.floor and one.label in found and ours.rate < one.floor * found[one.label].rate
    ]
    added = ours.alone_ms - found[DIRECT].alone_ms
    if added > ADDED_FLOOR_MS:
        misses.append(f"{added:.2f} ms added to a lone call instead of {ADDED_FLOOR_MS}")
    return misses + [f"{one.failed:g} calls failed at {label}" for label, one in found.items() if one.failed]


def format_sync() -> str:
    """Tell what an fsync takes here."""
    return (
        f"One fsync took {measure_sync_ms():.1f} ms: a lone call waits for four, a stream for three at first"
    )


def format_part(found: Mapping[str, Found], misses: list[str]) -> str:
    """Return the part of the page."""
    ours, floors = found[OURS.label], {one.label: one.floor for one in ALL}
    lines = []
    for label, one in found.items():
        floor, is_other = floors.get(label), label not in (OURS.label, DIRECT)
        lines.append(
            [
                label,
                f"{one.rate:,.0f}",
                f"{ours.rate / one.rate:.2g}" if is_other else "",
                f"{floor:g}" if floor else "",
                "" if label == DIRECT else f"{one.cpu_ms:.2f}",
                f"{one.cpu_ms / ours.cpu_ms:.2g}" if is_other else "",
                f"{one.alone_ms:.2f}",
                "" if label == DIRECT else f"{one.alone_ms - found[DIRECT].alone_ms:.2f}",
            ]
        )
    heads = ["through", "calls a second", "ours is so many times", "floor", "CPU ms a call"]
    heads += ["times our CPU", "p50 ms of a lone call", "added"]
    loader = f"loader: {get_loader()} (Debian: apt-get install wrk nginx-light)"
    place = f"{format_place(' '.join([COMMAND, *sys.argv[1:]]), [loader])}\n- {format_sync()}"
    return "\n\n".join([_ABOUT.strip(), format_table(heads, lines), format_misses(misses), place])


if __name__ == "__main__":
    sys.exit(main())
