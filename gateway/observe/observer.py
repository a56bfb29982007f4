"""The seam: what the engine tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from gateway.observe.stopwatch import Stopwatch
from gateway.task import Run

EndCall = Callable[[BaseException | None], None]
"""Told how a call went: None, or what the backend's adapter raised."""


def _ignore(_: BaseException | None) -> None:
    """Nobody wants to know how the call went."""


class Observer:
    """Hears what the engine has done, after it was stored; this one does nothing.

    The methods are called in the event loop, between two steps of a run: they neither wait nor raise.
    """

    times_commits = False
    """Whether `note_commit` is wanted; the clock is not read otherwise."""

    def note_change(self, before: Run | None, run: Run, watch: Stopwatch | None) -> None:
        """Hear of a change of a run; `before` is None for a new one.

        `watch` tells of a run that this process took in what the gateway itself took; None if nobody knows.
        """

    def begin_call(self, _backend: str, _operation: str, _runs: Sequence[Run]) -> EndCall:
        """Hear that a backend is asked something for these runs; what returns is called at its end."""
        return _ignore

    def note_commit(self, seconds: float) -> None:
        """Hear how long the store took to write a change down."""

    def close(self) -> None:
        """Hear that nothing more comes; may wait for what is written elsewhere."""


NOBODY = Observer()
_NOTHING = nullcontext()


def calling(
    observer: Observer, backend: str, operation: str, runs: Sequence[Run] = ()
) -> AbstractContextManager[None]:
    """Tell of a call that is made inside, and of its end, whatever that is."""
    return _NOTHING if observer is NOBODY else _call(observer, backend, operation, runs)


@contextmanager
def _call(observer: Observer, backend: str, operation: str, runs: Sequence[Run]) -> Iterator[None]:
    end = observer.begin_call(backend, operation, runs)
    try:
        yield
    except BaseException as error:
        end(error)
        raise
    end(None)


class Observers(Observer):
    """Several observers, told one after the other."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self.times_commits = any(observer.times_commits for observer in observers)

    def note_change(self, before: Run | None, run: Run, watch: Stopwatch | None) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.note_change(before, run, watch)

    def begin_call(self, backend: str, operation: str, runs: Sequence[Run]) -> EndCall:
        """Tell all, also of the end."""
        ends = [observer.begin_call(backend, operation, runs) for observer in self._observers]

        def end(error: BaseException | None) -> None:
            for one in ends:
                one(error)

        return end

    def note_commit(self, seconds: float) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.note_commit(seconds)

    def close(self) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.close()
