"""A follower that asks when a rhythm says so sees each block soon after it is there, and asks little."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from math import floor

import pytest

from gateway.chain.rhythm import Rhythm

STEP = 0.25  # while nothing is known
FRESH = 0.15  # nobody asks again sooner


def follow(blocks: Sequence[float], until: float, delay: float = 0.1) -> list[tuple[float, int]]:
    """Ask as the rhythm says; return when it was asked (in seconds), and which block was shown."""
    rhythm, now, asked = Rhythm(), 0.3, []
    while now < until:
        number = sum(block <= now + delay for block in blocks) - 1  # the RPC looks after the way there
        rhythm.note(number, floor(blocks[number]), now)
        asked.append((now, number))
        told = now + delay
        following = rhythm.get_next(told)
        now = max(told + STEP if following is None else following, now + FRESH)
    return asked


def get_lateness(asked: Sequence[tuple[float, int]], blocks: Sequence[float], delay: float) -> list[float]:
    """Return for each block that was new to who asked how late it was asked for, in seconds."""
    return [at + delay - blocks[number] for (_, before), (at, number) in pairwise(asked) if number > before]


@pytest.mark.parametrize("phase", [0.05, 0.4, 0.77])
@pytest.mark.parametrize(("period", "jitter"), [(1.0, 0.0), (1.003, 0.0), (1.0, 0.02), (5.0, 0.05)])
def test_each_block_is_seen_soon_and_asked_for_about_once(period: float, jitter: float, phase: float) -> None:
    dice = random.Random(7)
    blocks = [phase - 10 + number * period + dice.uniform(-jitter, jitter) for number in range(200)]
    asked = [one for one in follow(blocks, 60 * period) if one[0] > 20 * period]
    assert len(asked) <= 40 * 1.7
    late = get_lateness(asked, blocks, 0.1)
    assert len(late) >= 38
    assert sorted(late)[len(late) // 2] <= 0.12 * period
    assert max(late) <= 0.3 * period + FRESH


def test_after_a_rest_the_next_block_is_known_within_a_step() -> None:
    """Nobody asked for half a minute, and the blocks were slower than their times say."""
    rhythm, blocks = Rhythm(), [number * 1.002 for number in range(100)]
    for at in (0.5, 1.02, 2.02, 3.04, 4.02, 4.97, 5.04):
        rhythm.note(int(at / 1.002), int(at), at)
    now = 35.4
    rhythm.note(int(now / 1.002), int(now), now)
    following = rhythm.get_next(now + 0.1)
    assert following is not None
    assert blocks[36] - 0.4 <= following <= blocks[36] + 0.15


def test_a_chain_that_stops_is_asked_ever_more_rarely() -> None:
    blocks = [float(number) for number in range(20)]
    asked = follow(blocks, 60)
    after = [at for at, _ in asked if at > 25]
    assert len(after) <= 35 * 1.5
    assert min(later - at for at, later in pairwise(after)) >= 0.5


def test_nothing_is_foretold_before_a_few_blocks_were_seen() -> None:
    rhythm = Rhythm()
    for number in range(3):
        rhythm.note(number, number, float(number))
        assert rhythm.get_next(float(number)) is None
    rhythm.note(3, 3, 3.0)
    assert rhythm.get_next(3.0) is not None


def test_a_reorg_begins_anew() -> None:
    rhythm = Rhythm()
    for number in range(6):
        rhythm.note(number, number, number + 0.5)
    rhythm.note(4, 4, 6.5)
    following = rhythm.get_next(6.6)
    assert following is not None
    assert 6.6 <= following <= 7.6
