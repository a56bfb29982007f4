"""What is promised about publishing on OGPU."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.ogpu.rounds import TASKS, Row, Waiting

MOST_BLOCKS = 2
MOST_REQUESTS = 15
LEAST_AGAINST_SEQUENCE = 15.0
LEAST_AGAINST_THREADS = 3.0


def find_misses(plain: Sequence[Row], delayed: Sequence[Row], waiting: Waiting) -> list[str]:
    """Name every floor that was missed. Rows: ours, the SDK in sequence, the SDK in threads."""
    misses: list[str] = []
    for words, rows in (("", plain), (" with the delay", delayed)):
        samples = rows[0].samples
        blocks, requests = max(s.last_block for s in samples), max(s.requests for s in samples)
        wrong = [s.on_chain for s in samples if s.on_chain != TASKS]
        if wrong:
            misses.append(f"{wrong} tasks on chain in place of {TASKS}{words}")
        if blocks > MOST_BLOCKS:
            misses.append(f"the last task was in block {blocks}{words}, the floor is {MOST_BLOCKS}")
        if requests > MOST_REQUESTS:
            misses.append(f"{requests} HTTP requests{words}, the floor is {MOST_REQUESTS}")
    in_sequence, in_threads = get_ratio(plain, 1), get_ratio(delayed, 2)
    if in_sequence < LEAST_AGAINST_SEQUENCE:
        misses.append(f"{in_sequence:.1f} x the SDK in sequence, the floor is {LEAST_AGAINST_SEQUENCE:g}")
    if in_threads < LEAST_AGAINST_THREADS:
        misses.append(
            f"{in_threads:.1f} x the SDK in threads with the delay, the floor is {LEAST_AGAINST_THREADS:g}"
        )
    if waiting.calls["eth_getLogs"] > waiting.blocks:
        misses.append(f"{waiting.calls['eth_getLogs']} log scans in {waiting.blocks} blocks")
    return misses


def get_ratio(rows: Sequence[Row], other: int) -> float:
    """Say how many times faster we are, by the medians."""
    return rows[other].seconds / rows[0].seconds
