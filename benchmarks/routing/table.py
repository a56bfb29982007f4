"""The tables, as text and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.lost_answer.table import format_table
from benchmarks.routing.measure import GOAL, NOISE, SEEDS, Row
from benchmarks.routing.planning import CANDIDATES, LIMIT_SECONDS, Speed
from benchmarks.routing.policies import MOST_TRIES
from gateway.policy.learning import HALF_COUNT, HALF_LIFE

if TYPE_CHECKING:
    from benchmarks.lost_answer.place import Place

_ABOUT = f"""\
What one good result costs and how long it takes, by how the backend is chosen. Requests come by chance,
in virtual time, to simulated backends whose price, time, success and presence change. Every number is a
ratio to an **oracle** that knows what each backend is like at the moment, and takes the one with the
least (price + value of time x expected time) / success. 1.00 is as good as the oracle, less is better.

**total** is money and time together, at a value of time of 3.60 USD an hour. A failed job is paid for
and takes its time; a refused connection costs 0.2 s and no money. Every policy may submit a request
{MOST_TRIES} times, and chance does the same to all: it depends on the seed, the request, the try and the
backend. Each number is the mean over {len(SEEDS)} seeds, {SEEDS[0]} to {SEEDS[-1]}.

`balanced`, `cheapest`, `fastest` and `reliable` are this gateway's, made of the same functions that the
engine plans, learns and decides with, with `on_failed="next"` and `explore="cheaper"`; only `balanced`
is told the value of time. The other four are LiteLLM's strategies, **written anew in a few lines from
what its documentation says**, not LiteLLM itself: the cooldown is 5 s after more than 3 failures in a
minute or more than half of a minute's calls; generic errors are retried at once. They are given more than
is documented: the prices of now instead of a table's.

The goal: `balanced` costs at most {GOAL:.2f} of the oracle in total on every workload, and no other
policy is both cheaper and faster. With each seed all policies meet the same requests, so the differences
to `balanced` are taken seed by seed: a policy is cheaper, or faster, if the mean difference is more than
{NOISE:g} of its standard errors; anything less is told as a tie.

How fast the policies forget was chosen with other seeds, 101 to 112: the half-lives with which the worst
workload was best.
"""

_HALF_LIFE_MINUTES = HALF_LIFE.total_seconds() / 60

_BEYOND = f"""\
A gateway that is used more rarely than its backends change knows too little of them. What was learnt
counts half after {_HALF_LIFE_MINUTES:g} minutes, or after {HALF_COUNT} newer outcomes; so that a backend
which was bad gets another chance, and with few requests these chances weigh more. Not part of the goal:
"""

_LIMITS = """\
Quotes are as fresh as the moment here; the engine keeps one for up to 30 s. No submission is in doubt
here: what that costs is [measured elsewhere](lost_answer.md). The workloads, and with them the ratios,
are our choice; they are in `benchmarks/routing/workloads.py`, and a strategy that wins elsewhere is
welcome there.
"""


def format_page(
    rows: Sequence[Row],
    beyond: Sequence[Row],
    speed: Speed,
    verdict: tuple[Sequence[str], Sequence[str]],
    place: Place,
) -> str:
    """Return the page, in Markdown; `verdict` has the misses and the ties."""
    parts = [
        "# Which backend: policies compared",
        _ABOUT.rstrip(),
        "## The goal",
        _format_verdict(*verdict),
        "## In total",
        _format_totals(rows),
        "## Money and time",
        "Money / time of one good result, and the share of requests that were given up where there were any.",
        _format_axes(rows),
        "## The workloads",
        format_table(["workload", "what is hard in it"], [[r.workload.name, r.workload.about] for r in rows]),
        "## Where it does not hold",
        _BEYOND.rstrip(),
        _format_totals(beyond),
        f"`rarely` is {beyond[0].workload.about}.",
        _LIMITS.rstrip(),
        "## How long a plan takes",
        _format_speed(speed),
        "## How to repeat it",
        f"```\n{place.command}\n```",
        "\n".join(f"- {line}" for line in place.lines),
    ]
    return "\n\n".join(parts) + "\n"


def _format_verdict(misses: Sequence[str], ties: Sequence[str]) -> str:
    parts = [_list("Missed:", misses) if misses else "Reached on every workload."]
    if ties:
        parts.append(_list("Before `balanced` on both axes, but on one of them by no more than noise:", ties))
    else:
        parts.append("There is no tie: nobody is before `balanced` on both axes even by noise.")
    return "\n\n".join(parts)


def _list(head: str, items: Sequence[str]) -> str:
    return f"{head}\n\n" + "\n".join(f"- {item}" for item in items)


def _format_totals(rows: Sequence[Row]) -> str:
    names = [name for name in rows[0].played if name != "oracle"]
    lines = [[name, *(f"{row.tell_ratios(name).total:.2f}" for row in rows)] for name in names]
    return format_table(["total", *(row.workload.name for row in rows)], lines)


def _format_axes(rows: Sequence[Row]) -> str:
    names = [name for name in rows[0].played if name != "oracle"]
    lines = [[name, *(_format_cell(row, name) for row in rows)] for name in names]
    return format_table(["money / time", *(row.workload.name for row in rows)], lines)


def _format_cell(row: Row, name: str) -> str:
    found = row.tell_ratios(name)
    failed = f" ({found.failed:.1%} failed)" if found.failed >= 0.0005 else ""
    return f"{found.money:.2f} / {found.seconds:.2f}{failed}"


def _format_speed(speed: Speed) -> str:
    return (
        f"{CANDIDATES} candidates through all five stages: {speed.plan * 1e3:.1f} ms, the median of 21 runs "
        f"(goal: under {LIMIT_SECONDS * 1e3:.0f} ms); {speed.plan / speed.sort:.0f} times as long as sorting "
        f"{CANDIDATES} tuples in the same run ({speed.sort * 1e6:.0f} µs)."
    )
