"""The page."""

from __future__ import annotations

from benchmarks.durability.measure import Numbers

_HEAD = """# How fast it is to lose nothing

What it costs to have every run on the disk before it is acted upon. Absolute numbers hold for this machine on
this day; the ratios are what to look at, for all were measured in turn.

{place}
- What a bare loop of `sqlite3` gets here, 100 rows a commit: {disk_rate:,.0f} rows a second; a commit takes
  {disk_p50:.1f} ms (median). {note}

## Throughput

100 runs in flight; medians of {rounds} rounds. "The journal alone" are the store's three writes of a run:
created, dispatched with its envelope, ended. "Whole" is `gateway.run` with its writes, on a backend that
costs no time. The peers do three steps that do nothing: DBOS writes each of them down; Procrastinate, which
keeps no steps, does them in one job.

| what | runs a second | p50 | p99 | CPU of the process a run |
|---|--:|--:|--:|--:|
"""

_ABOUT_TAKING_OVER = (
    "From then on, until another process, which was there, has looked at the first of them, and at each. A"
    " process of the same machine is seen to be dead; elsewhere nobody sees that, and its lease must be over"
    " first. The floor is 5 s."
)


def format_page(
    place: str, note: str, rounds: int, disk: Numbers, found: dict[str, Numbers], others: list[str]
) -> str:
    """Return the page in Markdown."""
    text = _HEAD.format(
        place=place, disk_rate=disk["rate"], disk_p50=disk["p50_ms"], note=note, rounds=rounds
    )
    for name, numbers in found.items():
        text += (
            f"| {name} | {numbers['rate']:,.0f} | {numbers['p50_ms']:.1f} ms | {numbers['p99_ms']:.1f} ms"
            f" | {numbers['cpu_us']:.0f} us |\n"
        )
    return "\n\n".join([text.rstrip(), *others]) + "\n"


def format_ratios(found: dict[str, Numbers], pairs: list[tuple[str, str, float]]) -> str:
    """Return a table of ratios of rates, with the floor for each."""
    lines = ["| ratio | floor | measured | |", "|---|--:|--:|---|"]
    for ours, theirs, floor in pairs:
        if ours in found and theirs in found:
            ratio = found[ours]["rate"] / found[theirs]["rate"]
            verdict = "reached" if ratio >= floor else "missed"
            lines.append(f"| {ours} / {theirs} | {floor:g} | {ratio:.2f} | {verdict} |")
    return "\n".join(lines)


def format_floors(floors: list[tuple[str, float, float, bool]]) -> str:
    """Return a table of absolute floors: (what, floor, measured, more is better)."""
    lines = ["| figure | floor | measured | |", "|---|--:|--:|---|"]
    for what, floor, measured, is_more in floors:
        good = measured >= floor if is_more else measured <= floor
        lines.append(f"| {what} | {floor:,g} | {measured:,.1f} | {'reached' if good else 'missed'} |")
    return "\n".join(lines)


def format_waiting(runs: int, found: dict[str, Numbers]) -> str:
    """Return what so many waiting runs cost."""
    figures = (
        ("memory, MB", "mb"),
        ("memory once a second gateway has recovered all of them, MB", "recovered_mb"),
        ("most that was seen, MB", "peak_mb"),
        ("asyncio tasks", "tasks"),
        ("asyncio timers", "timers"),
        ("most asyncio tasks while they are recovered", "most_tasks"),
        ("polls a second, of up to 1,000 jobs each", "polls_per_second"),
        ("submitted a second", "submitted_per_second"),
        ("recovered a second", "recovered_per_second"),
    )
    landed, room = found["landed"], found["room"]
    rows = [f"| {what} | {landed[name]:,.0f} | {room[name]:,.0f} |" for what, name in figures]
    shares = f"{landed['cpu_share'] * 100:.0f} % | {room['cpu_share'] * 100:.0f} %"
    about = (
        "On one process, SQLite: jobs at a backend that never ends them, and runs before a gate with ten"
        f" places. The floor is 2 GiB; the idle process has {landed['idle_mb']:,.0f} MB."
    )
    return "\n".join(
        [
            f"## {runs:,} runs that wait",
            "",
            about,
            "",
            "| | landed | waiting for room |",
            "|---|--:|--:|",
            *rows,
            f"| of a core, while they wait | {shares} |",
        ]
    )


def format_takeover(runs: int, found: dict[str, Numbers]) -> str:
    """Return how long runs stood still after their process was killed; the floor is 5 s."""
    lines = [
        f"| {name} | {numbers['first_seconds']:.1f} s | {numbers['last_seconds']:.1f} s |"
        f" {'reached' if numbers['last_seconds'] <= 5 else 'missed'} |"
        for name, numbers in found.items()
    ]
    return "\n".join(
        [
            "## Taken over",
            "",
            f"A process with {runs:,} jobs under way is killed with `kill -9`. {_ABOUT_TAKING_OVER}",
            "",
            "| where | first | all | |",
            "|---|--:|--:|---|",
            *lines,
        ]
    )


def format_replicas(found: dict[int, Numbers]) -> str:
    """Return what replicas that share one PostgreSQL do together, by how many they are."""
    alone, most = found[1]["rate"], max(found)
    lines = [
        f"| {replicas} | {numbers['rate']:,.0f} | {numbers['rate'] / alone:.2f} | {numbers['p50_ms']:.1f} ms"
        f" | {numbers['p99_ms']:.1f} ms |"
        for replicas, numbers in found.items()
    ]
    told = (
        "Whole runs on one PostgreSQL, by replicas in processes of their own that share them and what is in"
        f" flight, 100 in all. {most} of them and the database share this machine's cores."
    )
    return "\n".join(
        [
            "## Replicas",
            "",
            told,
            "",
            "| replicas | runs a second, together | times one | p50 | p99 |",
            "|--:|--:|--:|--:|--:|",
            *lines,
        ]
    )


def format_listing(runs: int, numbers: Numbers) -> str:
    """Return how long it takes to find some of many."""
    asked = {name: ms for name, ms in numbers.items() if name != "file_mb"}
    lines = [f"| {name} | {ms:.1f} ms |" for name, ms in asked.items()]
    told = f"In a file of {numbers['file_mb']:,.0f} MB; 50 whole runs a listing."
    return "\n".join(
        [f"## {runs:,} runs that have ended", "", told, "", "| question | median |", "|---|--:|", *lines]
    )
