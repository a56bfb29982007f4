"""Measure calls through `gateway serve` beside proxies that store nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.server.comparing import DIRECT, Comparison, make_parser
from benchmarks.server.contestants import (
    CHAT_PATH,
    LITELLM,
    NGINX,
    OURS,
    PORTKEY_GATEWAY,
    STARLETTE_HTTPX,
    Contestant,
    make_body,
)
from benchmarks.server.load import get_loader, load
from benchmarks.server.running import run_contestant

CONNECTIONS = 50
ADDED_FLOOR_MS = 0.4

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


_HEADS = ("CPU ms a call", "times our CPU", "p50 ms of a lone call", "added")


@dataclass(frozen=True, slots=True)
class Found:
    """The medians of one contestant: calls a second, CPU ms a call, ms of a lone call, failed calls."""

    rate: float
    cpu_ms: float
    alone_ms: float
    failed: float


def make_comparison(seconds: float) -> Comparison[Found]:
    """Return the benchmark, each measurement of which takes so long."""

    def measure_mock(url: str) -> Found:
        url, body = url + CHAT_PATH, make_body("echo")
        alone, many = load(url, {}, body, 1, seconds / 3), load(url, {}, body, CONNECTIONS, seconds / 3)
        return Found(many.rate, 0.0, alone.p50_ms, many.failed)

    def measure(one: Contestant, upstream: str) -> Found:
        with run_contestant(one, upstream, "echo") as running:
            call = (running.url, running.headers, make_body("echo"))
            load(*call, CONNECTIONS, seconds / 3)
            cpu = running.get_cpu_seconds()
            many = load(*call, CONNECTIONS, seconds)
            cpu = running.get_cpu_seconds() - cpu
            alone = load(*call, 1, seconds / 3)
        return Found(many.rate, cpu / max(1, many.count) * 1e3, alone.p50_ms, many.failed)

    return Comparison(
        name="server",
        about=_ABOUT,
        contestants=(OURS, LITELLM, PORTKEY_GATEWAY, STARLETTE_HTTPX, NGINX),
        floors={LITELLM.label: 60, PORTKEY_GATEWAY.label: 5},
        heads=("through", "calls a second", *_HEADS),
        mock="benchmarks.mock",
        measure_mock=measure_mock,
        measure=measure,
        find_more=_find_more,
        format_cells=_format_cells,
        versions=[f"loader: {get_loader()} (Debian: apt-get install wrk nginx-light)"],
    )


def _find_more(found: Mapping[str, Found]) -> list[str]:
    added = found[OURS.label].alone_ms - found[DIRECT].alone_ms
    late = [f"{added:.2f} ms added to a lone call instead of {ADDED_FLOOR_MS}"]
    failed = [f"{one.failed:g} calls failed at {label}" for label, one in found.items() if one.failed]
    return (late if added > ADDED_FLOOR_MS else []) + failed


def _format_cells(found: Mapping[str, Found], label: str) -> list[str]:
    one, is_mock = found[label], label == DIRECT
    return [
        "" if is_mock else f"{one.cpu_ms:.2f}",
        "" if is_mock or label == OURS.label else f"{one.cpu_ms / found[OURS.label].cpu_ms:.2g}",
        f"{one.alone_ms:.2f}",
        "" if is_mock else f"{one.alone_ms - found[DIRECT].alone_ms:.2f}",
    ]


def main() -> int:
    """Measure, print and write; 1 if a floor is missed."""
    parser = make_parser("python -m benchmarks.server", __doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement")
    args = parser.parse_args()
    return make_comparison(args.seconds).run(args.turns, args.only)


if __name__ == "__main__":
    sys.exit(main())
