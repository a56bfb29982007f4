"""What a process that works for others wants of its gateway, beyond the face of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.engine.engine import Engine
    from gateway.observe.observer import Observer
    from gateway.observe.stopwatch import Stopwatch
    from gateway.task import Event, Run


class Hosting:
    """What a gateway does in this process.

    Attributes:
        callers: how many requests began with this gateway and are not answered; whoever serves it counts.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = 0

    @property
    def is_believed(self) -> bool:
        """Say whether the store took its last sign of life not too long ago."""
        return self._engine.is_believed

    def works_on(self, run_id: str) -> bool:
        """Say whether this process works on a run."""
        return self._engine.get_live(run_id) is not None

    def count_runs(self) -> int:
        """Return how many runs this process works on."""
        return self._engine.count_live()

    def get_stopwatch(self, run_id: str) -> Stopwatch | None:
        """Return the stopwatch of a run that this process works on."""
        live = self._engine.get_live(run_id)
        return None if live is None else live.watch

    def track(self, run_id: str) -> Callable[[], Run] | None:
        """Return what tells the newest state of a run that this process works on, after its end as well."""
        live = self._engine.get_live(run_id)
        return None if live is None else lambda: live.run

    def hear(self, run_id: str, tell: Callable[[Event | None], None]) -> bool:
        """Have a function called with each event of a run from its first on, then with None.

        It is called in place, so it has to be quick. False if the run is not worked on here, or if only the
        store still has its first events: nothing is called then.
        """
        live = self._engine.get_live(run_id)
        return live is not None and live.hear(tell)

    def observe(self, observer: Observer) -> None:
        """Tell somebody what happens from now on."""
        self._engine.observe(observer)

    async def learn_budgets(self) -> None:
        """Read the budgets of API keys at once: there are new keys. Raises StoreError."""
        await self._engine.key_budgets.learn()

    async def stop_claiming(self) -> None:
        """Take over no more runs of other processes, and forget none: another gateway of this one does."""
        await self._engine.stop_claiming()
