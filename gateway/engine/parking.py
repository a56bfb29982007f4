"""Runs that wait before they have a job: entries in a queue or a heap, and neither task nor timer for any."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.clock import Clock
from gateway.engine.due import Alarms
from gateway.engine.gates import Gate
from gateway.engine.journal import is_over
from gateway.engine.live import Live
from gateway.engine.waits import repeat, sleep_or_hear
from gateway.policy.routing import Candidate
from gateway.types import AttemptId

_AT_ONCE = 64
_PATIENCE_SECONDS = 1.0
_WOKEN_AT_ONCE = 1_000
_SCOUTS = 16
_MOST_SCOUTS = 2_048
_SCOUT_EVERY_SECONDS = 1.0


class Why(Enum):
    """What a run waits for."""

    ROOM = auto()
    HEALTH = auto()
    RETRY = auto()
    DOUBT = auto()
    STORE = auto()
    CHILDREN = auto()


_CALLED_OFF = (Why.ROOM, Why.HEALTH, Why.RETRY)  # whoever waits for these may end at any time
_HAVE_NO_DEADLINE = (Why.STORE, Why.CHILDREN)  # nothing can be written then; the children have the same


@dataclass(slots=True, eq=False)
class Place:
    """What an attempt has, or waits for, at a backend."""

    gate: Gate
    attempt_id: AttemptId
    candidate: Candidate


@dataclass(slots=True, eq=False)
class Stay:
    """One run's wait.

    Attributes:
        why: what it waits for; in DOUBT, to ask again whether it landed; for the STORE, to write down what it
            has to; for its CHILDREN, which do its task.
        until: the monotonic second at which it ends in any case; a deadline may end it before.
        place: what it waits for at a gate, and has, if it `is_in`.
        alarm: see Alarms.
        is_over: somebody was told to go on with the run.
    """

    lot: Lot
    live: Live
    why: Why
    until: float = math.inf
    place: Place | None = None
    ward: Ward | None = None
    alarm: int = 0
    is_in: bool = False
    is_over: bool = False

    @property
    def attempt_id(self) -> str:
        """Return whose place it waits for."""
        return "" if self.place is None else self.place.attempt_id

    @property
    def key(self) -> str:
        """Return whose turn it takes at a gate."""
        return self.live.run.api_key or self.live.run.task.model or ""

    def enter(self) -> None:
        """Hear that there is room, and that the place is taken."""
        self.is_in = True
        if self.live.stay is self:
            self.lot.wake(self.live)


@dataclass(slots=True, eq=False)
class Ward:
    """The runs that wait for the same ill backends to be well.

    Attributes:
        backends: which.
        stays: who waits longest comes first.
        scouts: so many go and look the next time; twice as many each time that none came back.
        alarm: see Alarms.
    """

    backends: frozenset[str]
    stays: OrderedDict[Stay, None] = field(default_factory=OrderedDict)
    scouts: int = _SCOUTS
    alarm: int = 0


class Lot:
    """Holds the runs that wait. `rouse` is given each once, when its wait is over, however it ended."""

    def __init__(self, clock: Clock, rouse: Callable[[Live], None]) -> None:
        self._clock, self._rouse = clock, rouse
        self._alarms: Alarms[Stay | Ward] = Alarms()
        self._wards: dict[frozenset[str], Ward] = {}
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    def pause(self, live: Live, seconds: float, why: Why) -> None:
        """Let a run wait for so long."""
        self._park(Stay(self, live, why, until=self._clock.monotonic() + seconds))

    def wait_for_health(self, live: Live, backends: frozenset[str], seconds: float) -> None:
        """Let a run wait for any of some ill backends, the first of which is worth a look after so long."""
        ward = self._wards.get(backends)
        if ward is None:
            ward = self._wards[backends] = Ward(backends)
        ward.scouts = _SCOUTS
        if not ward.alarm:
            self._set_alarm(ward, self._clock.monotonic() + seconds)
        stay = Stay(self, live, Why.HEALTH, ward=ward)
        ward.stays[stay] = None
        self._park(stay)

    def wait_for_room(self, live: Live, place: Place) -> bool:
        """Let a run wait for a place, unless there is one by now; says whether there is."""
        stay = Stay(self, live, Why.ROOM, place=place)
        place.gate.queue(stay)
        if not stay.is_in:
            self._park(stay)
        return stay.is_in

    def wake(self, live: Live) -> None:
        """Let a run wait no longer, if it does."""
        stay = live.stay
        if stay is not None and not stay.is_over and not self._is_closed:
            self._end(stay)
            self._rouse(live)

    def take_out(self, live: Live) -> Stay | None:
        """Return how a run waited until now, if it did; from here on the place is the caller's."""
        stay, live.stay = live.stay, None
        if stay is not None:
            self._end(stay)
            live.watch.come_back()
        return stay

    def forget(self, live: Live) -> None:
        """Let go of a run that is over, or another's."""
        stay = self.take_out(live)
        if stay is not None and stay.place is not None and stay.is_in:
            stay.place.gate.leave(stay.place.attempt_id)

    async def aclose(self) -> None:
        """Wake nobody any more."""
        self._is_closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _park(self, stay: Stay) -> None:
        live = stay.live
        live.stay = stay
        if stay.why is not Why.STORE:
            live.watch.leave()
        self._arm(stay)
        if live.dropped or (live.cancel.is_set() and stay.why in _CALLED_OFF):
            self.wake(live)

    def _arm(self, stay: Stay) -> None:
        """Set the alarm for the end of a wait, or the run's deadline if that is before."""
        at, deadline_at = stay.until, stay.live.run.deadline_at
        if deadline_at is not None and stay.why not in _HAVE_NO_DEADLINE:
            left = (deadline_at - self._clock.now()).total_seconds()
            at = min(at, self._clock.monotonic() + max(0.0, left))
        if at < math.inf:
            self._set_alarm(stay, at)

    def _end(self, stay: Stay) -> None:
        stay.is_over = True
        self._alarms.unset(stay)
        if stay.ward is not None:
            stay.ward.stays.pop(stay, None)
        if stay.place is not None and not stay.is_in:
            stay.place.gate.give_up(stay)

    def _set_alarm(self, sleeper: Stay | Ward, at: float) -> None:
        first = self._alarms.get_first()
        self._alarms.set(sleeper, at)
        if first is None or at < first:
            self._news.set()
        if self._looking is None and not self._is_closed:
            self._looking = asyncio.create_task(repeat("waking runs that wait", self._look, self._clock))

    async def _look(self) -> None:
        """Wake those whose time has come, or wait until somebody's has."""
        first, now = self._alarms.get_first(), self._clock.monotonic()
        if first is None or first > now:
            self._news.clear()
            await sleep_or_hear(self._clock, None if first is None else first - now, self._news)
            return
        for sleeper in self._alarms.take(now, _WOKEN_AT_ONCE):
            if isinstance(sleeper, Ward):
                self._send_scouts(sleeper)
            elif now >= sleeper.until or is_over(sleeper.live.run, self._clock.now()):
                self.wake(sleeper.live)
            else:  # the two clocks differ a little
                self._arm(sleeper)
        await asyncio.sleep(0)

    def _send_scouts(self, ward: Ward) -> None:
        """Let some see whether their backends are well by now; whoever finds them ill comes back."""
        for stay in [stay for stay, _ in zip(ward.stays, range(ward.scouts), strict=False)]:
            self.wake(stay.live)
        ward.scouts = min(2 * ward.scouts, _MOST_SCOUTS)
        if ward.stays:
            self._set_alarm(ward, self._clock.monotonic() + _SCOUT_EVERY_SECONDS)
        else:
            del self._wards[ward.backends]


class Rousing:
    """Has many runs worked on, a bounded number of them at once; one that hangs is overtaken."""

    def __init__(self, clock: Clock, begin: Callable[[Live], asyncio.Task[None]]) -> None:
        self._clock, self._begin = clock, begin
        self._ready: deque[Live] = deque()
        self._moving: set[asyncio.Task[None]] = set()
        self._overtaking: asyncio.Task[None] | None = None

    def add(self, live: Live) -> None:
        """Have a run worked on as soon as there is a hand free."""
        self._ready.append(live)
        self._begin_some()

    async def aclose(self) -> None:
        """Begin nothing more."""
        self._ready.clear()
        if self._overtaking is not None:
            self._overtaking.cancel()
            await asyncio.gather(self._overtaking, return_exceptions=True)

    def _begin_some(self) -> None:
        while self._ready and len(self._moving) < _AT_ONCE:
            live = self._ready.popleft()
            if not live.dropped:
                task = self._begin(live)
                self._moving.add(task)
                task.add_done_callback(self._note_done)
        if self._ready and self._overtaking is None:
            self._overtaking = asyncio.create_task(self._overtake())

    def _note_done(self, task: asyncio.Task[None]) -> None:
        self._moving.discard(task)
        self._begin_some()

    async def _overtake(self) -> None:
        while self._ready:
            await self._clock.sleep(_PATIENCE_SECONDS)
            self._moving.clear()
            self._begin_some()
        self._overtaking = None
