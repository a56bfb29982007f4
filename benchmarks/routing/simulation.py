"""Plays a workload with a policy, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from benchmarks.routing.policies import Policy
from benchmarks.routing.workloads import Workload
from benchmarks.routing.world import End, Request, Try, World


@dataclass(frozen=True, slots=True)
class Result:
    """What a policy made of a workload.

    Attributes:
        money: paid for one good result, in USD; what failed is in it.
        seconds: from the request to the good result; those that never came are in it.
        total: both, at the value of time.
        failed: the share of requests that were given up.
    """

    money: float
    seconds: float
    total: float
    failed: float


def simulate(workload: Workload, policy: Policy, seed: int) -> Result:
    """Send all requests of a workload through a policy."""
    world = World({backend.name: backend for backend in workload.backends}, seed)
    requests = [Request(number, at) for number, at in enumerate(_throw_arrivals(workload, seed))]
    order = count()
    events: list[tuple[float, int, Request, str | Try | None]] = [
        (request.began, next(order), request, None) for request in requests
    ]
    heapq.heapify(events)
    while events:
        world.now, _, request, event = heapq.heappop(events)
        if isinstance(event, str):
            policy.note_begin(event, world.now)
            tried = world.submit(request, event)
            heapq.heappush(events, (tried.ended, next(order), request, tried))
            continue
        if event is not None:
            _end(world, policy, request, event)
            if event.end is End.SUCCEEDED:
                continue
        step = policy.choose(request, world)
        if step is not None:
            heapq.heappush(events, (world.now + step.wait_seconds, next(order), request, step.backend))
    return _sum_up(requests, workload.value_of_second)


def _end(world: World, policy: Policy, request: Request, tried: Try) -> None:
    request.tries.append(tried)
    if tried.end is not End.REFUSED:
        world.running[tried.backend] -= 1
    policy.note_end(tried)


def _throw_arrivals(workload: Workload, seed: int) -> Iterator[float]:
    chance = random.Random(f"{seed}/{workload.name}")  # noqa: S311  no secret
    now = chance.expovariate(1.0 / workload.every_seconds)
    while now < workload.seconds:
        yield now
        now += chance.expovariate(1.0 / workload.every_seconds)


def _sum_up(requests: list[Request], value_of_second: float) -> Result:
    good = sum(request.tries[-1].end is End.SUCCEEDED for request in requests if request.tries)
    money = sum(tried.price for request in requests for tried in request.tries) / max(good, 1)
    waited = sum(request.tries[-1].ended - request.began for request in requests if request.tries)
    seconds = waited / max(good, 1)
    return Result(money, seconds, money + value_of_second * seconds, 1.0 - good / max(len(requests), 1))
