"""Measure streamed answers through `gateway serve` beside proxies that store nothing."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.environments import NotInstalledError
from benchmarks.lost_answer.table import format_table
from benchmarks.page import format_misses, format_place, write_part
from benchmarks.server.__main__ import format_sync
from benchmarks.server.contestants import CHAT_PATH, LITELLM, NGINX, OURS, STARLETTE_HTTPX, Contestant
from benchmarks.server.running import Running, pin_others, run_contestant
from benchmarks.serving import serve_mock
from benchmarks.streaming.client import read_alone, read_many

COMMAND = "python -m benchmarks.streaming"
EVENTS = 400
AT_ONCE = 20
FIRST_FLOOR_MS = 0.5
ALL = (OURS, LITELLM, STARLETTE_HTTPX, NGINX)
FLOORS = {LITELLM.label: 80.0, NGINX.label: 0.8}
DIRECT = "the mock itself"

_ABOUT = f"""\
## The server: streamed chat completions

{AT_ONCE} streams at a time, of {EVENTS} events each, as fast as the client reads, which counts every event.
The server under test has a core of its own; the mock and the client have the other one. They work in turn
(A B A B), each started anew in each turn and warmed up; the figures are medians of the turns. The time to the
first event is the median from the request on when there is one stream at a time; "later" is than at the mock
itself.

Behind this gateway is inference.sh's protocol: a task is begun, then its lines of JSON are followed, each
becomes a chunk of OpenAI's, and in the end the task is looked up; all is durable before it is sent. Pieces of
output are kept for a minute for readers that come again, not stored. The others pass OpenAI's own chunks on:
nginx and Starlette as bytes, LiteLLM after reading each.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """The medians of one contestant: events a second, CPU us an event, ms until the first event."""

    rate: float
    cpu_us: float
    first_ms: float


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--streams", type=int, default=100, help="of one measurement")
    parser.add_argument("--only", nargs="*", default=(), help="beginnings of labels")
    args = parser.parse_args()
    pin_others()
    found, missing = measure(args.turns, args.streams, args.only)
    misses = find_misses(found)
    text = format_part(found, [*misses, *missing])
    print(text)
    if not args.only:
        write_part("streaming", text)
    return 1 if misses else 0


def measure(turns: int, streams: int, only: Iterable[str] = ()) -> tuple[dict[str, Found], list[str]]:
    """Return each contestant's medians, and who is not there."""
    chosen = [one for one in ALL if not only or one.label.startswith(tuple(only))]
    turns_of = defaultdict[str, list[Found]](list)
    missing: dict[str, str] = {}
    with serve_mock(module="benchmarks.streaming.mock") as mock:
        for _ in range(turns):
            turns_of[DIRECT].append(_measure_one(Running(mock.url + CHAT_PATH, {}, 0), streams))
            for one in chosen:
                if one.label in missing:
                    continue
                try:
                    found = _measure_contestant(one, mock.url, streams)
                except NotInstalledError as error:
                    missing[one.label] = str(error)
                    continue
                turns_of[one.label].append(found)
                print(f"{one.label}: {found}", file=sys.stderr, flush=True)
    medians = {
        label: Found(
            median(one.rate for one in found),
            median(one.cpu_us for one in found),
            median(one.first_ms for one in found),
        )
        for label, found in turns_of.items()
    }
    return medians, list(missing.values())


def _measure_contestant(one: Contestant, upstream: str, streams: int) -> Found:
    with run_contestant(one, upstream, "speaker") as running:
        return _measure_one(running, streams)


def _measure_one(running: Running, streams: int) -> Found:
    call = (running.url, running.headers)
    asyncio.run(read_many(*call, EVENTS, max(1, streams // 5), AT_ONCE))
    cpu = running.get_cpu_seconds()
    rate = asyncio.run(read_many(*call, EVENTS, streams, AT_ONCE))
    cpu = running.get_cpu_seconds() - cpu
    first = asyncio.run(read_alone(*call, 100))
    return Found(rate, cpu / (streams * EVENTS) * 1e6, median(first))


def find_misses(found: Mapping[str, Found]) -> list[str]:
    """Return the floors that were missed."""
    ours = found[OURS.label]
    misses = [
        f"{ours.rate / found[label].rate:.2g} times {label} instead of {floor:g}"
        for label, floor in FLOORS.items()
        if label in found and ours.rate < floor * found[label].rate
    ]
    later = ours.first_ms - found[DIRECT].first_ms
    if later > FIRST_FLOOR_MS:
        misses.append(f"the first event {later:.2f} ms later instead of {FIRST_FLOOR_MS}")
    return misses


def format_part(found: Mapping[str, Found], misses: list[str]) -> str:
    """Return the part of the page."""
    ours = found[OURS.label]
    lines = []
    for label, one in found.items():
        floor, is_other = FLOORS.get(label), label not in (OURS.label, DIRECT)
        lines.append(
            [
                label,
                f"{one.rate:,.0f}",
                f"{ours.rate / one.rate:.2g}" if is_other else "",
                f"{floor:g}" if floor else "",
                "" if label == DIRECT else f"{one.cpu_us:.1f}",
                f"{one.first_ms:.2f}",
                "" if label == DIRECT else f"{one.first_ms - found[DIRECT].first_ms:.2f}",
            ]
        )
    heads = ["through", "events a second", "ours is so many times", "floor", "CPU us an event"]
    heads += ["ms to the first event", "later"]
    place = f"{format_place(' '.join([COMMAND, *sys.argv[1:]]))}\n- {format_sync()}"
    return "\n\n".join([_ABOUT.strip(), format_table(heads, lines), format_misses(misses), place])


if __name__ == "__main__":
    sys.exit(main())
