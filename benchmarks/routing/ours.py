"""This gateway's policies: the pure functions that the engine plans, learns and decides with."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from benchmarks.routing.policies import MOST_TRIES, Step
from benchmarks.routing.world import End, Request, Try, World
from gateway.adapter import Capabilities
from gateway.engine.health import Health
from gateway.errors import Unavailable
from gateway.lifecycle import AttemptStatus
from gateway.limits import Limits, Sort
from gateway.policy.health import Operation
from gateway.policy.learning import MOST_OUTCOMES, Observed, Outcome, make_outcome, observe
from gateway.policy.retry import Stop, TryAgain, decide
from gateway.policy.routing import Candidate, Plan, Selector
from gateway.policy.stages import Setting, make_plan
from gateway.task import Attempt, Quote, Task
from gateway.types import DECIMALS, AttemptId, Money

START_AT = datetime(2030, 1, 1, tzinfo=UTC)
SECONDS_BETWEEN_TRIES = 1.0  # before the same backends are tried again; the engine adds jitter
_SUM_UP_EVERY = 1.0  # as the engine does, in seconds
_UNIT = 10 ** DECIMALS["USD"]
_CAPABILITIES = Capabilities(healthy=True)
_STATUS = {
    End.REFUSED: AttemptStatus.REFUSED,
    End.FAILED: AttemptStatus.FAILED,
    End.SUCCEEDED: AttemptStatus.SUCCEEDED,
}


class VirtualClock:
    """The simulation's time, for what wants a clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """Return it as a date."""
        return START_AT + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return it in seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Refuse: the simulation sleeps for nobody."""
        raise NotImplementedError(f"nobody sleeps for {seconds} s here")


class Ours:
    """One way to sort, with on_failed="next"; "balanced" is told what time is worth."""

    def __init__(self, sort: Sort, value_of_second: float) -> None:
        self.name: str = sort
        worth = _tell_money(value_of_second * 3600) if sort == "balanced" else None
        self._limits = Limits(
            sort=sort, value_of_time=worth, on_failed="next", max_attempts=MOST_TRIES, explore="cheaper"
        )
        self._setting = Setting(self._limits, Selector(None), START_AT.date())
        self._task = Task(model="any", limits=self._limits)
        self._clock = VirtualClock()
        self._health = Health(self._clock)
        self._outcomes: dict[str, deque[Outcome]] = {}
        self._observed: dict[str, tuple[float, Observed]] = {}
        self._running: dict[str, int] = {}
        self._plans: dict[int, Plan] = {}

    def choose(self, request: Request, world: World) -> Step | None:
        """Return where a request goes next, as the engine's dispatcher does."""
        self._clock.seconds = world.now
        plan = self._plans.get(request.number) or self._plan(request, world)
        if not request.tries:
            return _make_step(plan, set())
        tried = {earlier.backend for earlier in request.tries}
        attempts = [_make_attempt(request, earlier) for earlier in request.tries]
        refused = request.tries[-1].end is End.REFUSED
        decision = decide(
            attempts,
            self._limits,
            error=Unavailable("connection refused") if refused else None,
            untried=[c.backend for c in plan.ranked if c.backend not in tried],
            pieces_out=False,
        )
        if isinstance(decision, Stop):
            self._plans.pop(request.number)
            return None
        if isinstance(decision, TryAgain):
            again = _make_step(self._plan(request, world), tried)
            return None if again is None else replace(again, wait_seconds=SECONDS_BETWEEN_TRIES)
        return _make_step(plan, tried)

    def note_begin(self, name: str, now: float) -> None:
        """Tell the breakers."""
        self._clock.seconds = now
        self._health.begin(name, Operation.SUBMIT)
        self._running[name] = self._running.get(name, 0) + 1

    def note_end(self, tried: Try) -> None:
        """Tell the breakers, and learn what an attempt teaches."""
        self._clock.seconds = tried.ended
        self._running[tried.backend] -= 1
        refused = tried.end is End.REFUSED
        self._health.note(tried.backend, Operation.SUBMIT, Unavailable("refused") if refused else None)
        outcome = make_outcome(_make_attempt(Request(0, tried.began), tried))
        if outcome is not None:
            self._outcomes.setdefault(tried.backend, deque(maxlen=MOST_OUTCOMES)).append(outcome)
            self._observed.pop(tried.backend, None)

    def _plan(self, request: Request, world: World) -> Plan:
        candidates = [
            Candidate(
                backend=name,
                target={},
                capabilities=_CAPABILITIES,
                quote=_make_quote(world.get_conditions(name).price),
                observed=replace(self._observe(name, world.now), running=self._running.get(name, 0)),
                blocked=self._health.tell_blocked(name),
            )
            for name in world.backends
        ]
        self._plans[request.number] = make_plan(candidates, self._task, self._setting)
        return self._plans[request.number]

    def _observe(self, name: str, now: float) -> Observed:
        known = self._observed.get(name)
        if known is None or now - known[0] > _SUM_UP_EVERY:
            known = now, observe(self._outcomes.get(name, ()), self._clock.now())
            self._observed[name] = known
        return known[1]


def _make_step(plan: Plan, tried: set[str]) -> Step | None:
    best = plan.get_best(tried) or plan.get_best()
    return None if best is None else Step(best.backend)


def _make_quote(price: float) -> Quote:
    money = _tell_money(price)
    return Quote(expected=money, upper=money, confidence="exact")


def _tell_money(dollars: float) -> Money:
    return Money(round(dollars * _UNIT), "USD")


def _make_attempt(request: Request, tried: Try) -> Attempt:
    began = START_AT + timedelta(seconds=tried.began)
    return Attempt(
        id=AttemptId(f"{request.number}.{tried.number}"),
        number=tried.number + 1,
        backend=tried.backend,
        address="simulated",
        target={},
        status=_STATUS[tried.end],
        created_at=began,
        submitted_at=None if tried.end is End.REFUSED else began,
        ended_at=START_AT + timedelta(seconds=tried.ended),
    )
