"""Measure streamed answers through `gateway serve` beside proxies that store nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import mean, median

from benchmarks.lost_answer.table import format_table
from benchmarks.server.comparing import DIRECT, Comparison, make_parser
from benchmarks.server.contestants import (
    CHAT_PATH,
    LITELLM,
    NGINX,
    OURS,
    OURS_TELLING,
    STARLETTE_HTTPX,
    Contestant,
)
from benchmarks.server.running import Running, run_contestant
from benchmarks.streaming.client import read_alone, read_many
from benchmarks.streaming.mock import Wish

EVENTS = (200, 300, 400, 500, 600)
AT_ONCE = 50
WRITTEN_TOGETHER = 16
FIRST_FLOOR_MS = 0.5

_ABOUT = f"""\
## The server: streamed chat completions

{AT_ONCE} streams at a time, on connections that are kept, as fast as the client reads, which counts every
event. They are of {EVENTS[0]} to {EVENTS[-1]} events: streams of one length that begin together end together
as well, and then each core waits for the other. The server under test has a core of its own; the mock and the
client have the other one, which holds nginx back. They work in turn (A B A B), each started anew in each turn
and warmed up; the figures are medians of the turns. The time to the first event is the median from the
request on when there is one stream at a time; "later" is than at the mock itself.

All pass on chunks that are OpenAI's already: this gateway, nginx and Starlette as bytes, LiteLLM after
reading each. This gateway does more: the chunks come from a container of an Infernet node, as a job that is
on disk, with fsync, before it is sent, that is looked up when its stream is over, and whose whole output is
stored then. "From inference.sh's lines" is the same where the backend speaks another protocol: a task is
begun, its lines of JSON are followed, and each becomes a chunk. Pieces of output are kept for a minute for
readers that come again. The others keep nothing.

The mock writes each event on its own, as a model's server does, which makes one after the other. The floors
are held against this: the peers' figures that they come from were measured so, and so streams are in use.
"""
_ABOUT_TOGETHER = f"""\
The same with {WRITTEN_TOGETHER} events in each write of the mock, as from a socket that many events wait in.
No floor is held against this table: here most of the work is the copying of bytes, and nginx carries so many
events with the same calls of the system as one.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """The medians of one contestant: events a second, CPU us an event, ms until the first event.

    The last two are the rate and the CPU where the mock writes many events together.
    """

    rate: float
    cpu_us: float
    first_ms: float
    together_rate: float = 0.0
    together_us: float = 0.0


def make_comparison(seconds: float) -> Comparison[Found]:
    """Return the benchmark, each measurement of which takes about so long, and longer for slow ones."""

    def measure(one: Contestant, upstream: str) -> Found:
        with run_contestant(one, upstream, one.speaker) as running:
            return _measure(running, one.speaker, seconds)

    return Comparison(
        name="streaming",
        about=_ABOUT,
        contestants=(OURS, OURS_TELLING, LITELLM, STARLETTE_HTTPX, NGINX),
        floors={LITELLM.label: 80, NGINX.label: 0.8},
        heads=("through", "events a second", "CPU us an event", "ms to the first event", "later"),
        mock="benchmarks.streaming.mock",
        measure_mock=lambda url: _measure(Running(url + CHAT_PATH, {}, 0), "speaker", seconds),
        measure=measure,
        find_more=_find_more,
        format_cells=_format_cells,
        format_more=_format_together,
    )


def _measure(running: Running, model: str, seconds: float) -> Found:
    call = (running.url, running.headers, model)

    def read(at_once: int) -> tuple[float, float]:
        """Return the events a second, and the CPU us an event."""
        rate = asyncio.run(read_many(*call, make_wishes(AT_ONCE, at_once), AT_ONCE))
        wishes = make_wishes(max(2 * AT_ONCE, round(rate * seconds / mean(EVENTS))), at_once)
        cpu = running.get_cpu_seconds()
        rate = asyncio.run(read_many(*call, wishes, AT_ONCE))
        events = sum(wish.events for wish in wishes)
        return rate, (running.get_cpu_seconds() - cpu) / events * 1e6

    each = read(1)
    first = median(asyncio.run(read_alone(*call, 100)))
    return Found(*each, first, *read(WRITTEN_TOGETHER))


def make_wishes(streams: int, at_once: int) -> list[Wish]:
    """Return what so many streams are asked for, the lengths in turn."""
    return [Wish(events, at_once) for events in islice(cycle(EVENTS), streams)]


def _find_more(found: Mapping[str, Found]) -> list[str]:
    later = found[OURS.label].first_ms - found[DIRECT].first_ms
    missed = f"the first event {later:.2f} ms later instead of {FIRST_FLOOR_MS}"
    return [missed] if later > FIRST_FLOOR_MS else []


def _format_cells(found: Mapping[str, Found], label: str) -> list[str]:
    one, is_mock = found[label], label == DIRECT
    return [
        "" if is_mock else f"{one.cpu_us:.1f}",
        f"{one.first_ms:.2f}",
        "" if is_mock else f"{one.first_ms - found[DIRECT].first_ms:.2f}",
    ]


def _format_together(found: Mapping[str, Found]) -> list[str]:
    """Return the second table with what is said about it."""
    ours = found[OURS.label].together_rate
    lines = [
        [
            label,
            f"{one.together_rate:,.0f}",
            "" if label in (OURS.label, DIRECT) else f"{ours / one.together_rate:.2g}",
            "" if label == DIRECT else f"{one.together_us:.1f}",
        ]
        for label, one in found.items()
    ]
    heads = ["through", "events a second", "ours is so many times", "CPU us an event"]
    return [_ABOUT_TOGETHER.strip(), format_table(heads, lines)]


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = make_parser("python -m benchmarks.streaming", __doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement, about")
    args = parser.parse_args()
    return make_comparison(args.seconds).run(args.turns, args.only)


if __name__ == "__main__":
    sys.exit(main())
