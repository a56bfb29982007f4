"""Where a task may go: what `backend=` selects, the candidates, and the Plan that ranks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gateway.adapter import Capabilities
from gateway.errors import InvalidInput, NoBackend
from gateway.limits import Sort
from gateway.policy.learning import Observed
from gateway.task import Quote
from gateway.types import JSON
from gateway.value import Value

HELD = "rate"
"""The rule that removes a candidate only where another can take the task at once."""
Stage = Literal["capability", "constraint", "order", "reserve", "commit"]


@dataclass(frozen=True, slots=True)
class Selector:
    """What `backend=` said: which backends (None for all), and how to sort them (None if it did not)."""

    backends: tuple[str, ...] | None
    sort: Sort | None = None

    @classmethod
    def parse(cls, backend: str | Sequence[str]) -> Selector:
        """Read "auto", "auto:cheapest", a name, or names in the order to try. Raises InvalidInput."""
        if not isinstance(backend, str):
            if not isinstance(backend, Sequence) or not all(isinstance(name, str) for name in backend):
                raise InvalidInput(f"backend={backend!r}: it has to be a name, several, or a way to sort")
            if not backend:
                raise InvalidInput("backend=[] names no backend")
            return cls(tuple(backend))
        if backend != "auto" and not backend.startswith("auto:"):
            return cls((backend,))
        if backend == "auto":
            return cls(None)
        sort = backend.partition(":")[2]
        if sort not in get_args(Sort):
            raise InvalidInput(
                f'"{backend}": there is no way to sort called {sort!r}; known: {", ".join(get_args(Sort))}'
            )
        return cls(None, sort)  # type: ignore[arg-type]  # mypy does not narrow by get_args


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Value):
    """One backend that a task could go to, with all that the stages look at.

    Attributes:
        blocked: why the engine can't use it now, as (rule, reason): an open breaker, for instance.
        rank: 1 for the first choice; 0 once removed.
        removed_by: the rule that removed it, and `reason`, a sentence.
        score: what it was sorted by, smaller is better, and `parts`, what the score is made of.
    """

    backend: str
    target: Mapping[str, JSON]
    capabilities: Capabilities
    quote: Quote | None = None
    quote_error: str | None = None
    observed: Observed = field(default_factory=Observed)
    blocked: tuple[str, str] | None = None
    rank: int = 0
    score: float | None = None
    parts: Mapping[str, float | str | None] = field(default_factory=dict)
    stage: Stage = "capability"
    removed_by: str | None = None
    reason: str | None = None

    @property
    def is_free(self) -> bool:
        """Say whether it costs nothing: its quote knows it of this task, the backend only in general."""
        if self.quote is not None:
            return self.quote.confidence == "free"
        return self.capabilities.free and self.quote_error is None

    def remove(self, rule: str, reason: str) -> Candidate:
        """Return it as removed by a rule of its stage."""
        return self.move(self.stage, removed_by=rule, reason=reason, rank=0)

    def move(self, stage: Stage, **changes: Any) -> Candidate:
        """Return it at a stage, with changes."""
        return self.replace(stage=stage, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Value):
    """The ranked candidates for a task, and why the others are none."""

    sort: Sort
    candidates: tuple[Candidate, ...]

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """Return those that are left, best first."""
        return tuple([c for c in self.candidates if c.removed_by is None])

    @property
    def removed(self) -> tuple[Candidate, ...]:
        """Return those that a rule removed."""
        return tuple(c for c in self.candidates if c.removed_by is not None)

    def get_best(self, tried: Iterable[str] = ()) -> Candidate | None:
        """Return the best that was not tried yet."""
        tried = set(tried)
        return next((c for c in self.ranked if c.backend not in tried), None)

    def require_best(self) -> Candidate:
        """Return the best. Raises NoBackend, which lists every candidate with its reason."""
        best = self.get_best()
        if best is None:
            reasons = [(c.backend, c.removed_by or "", c.reason or "") for c in self.removed]
            raise NoBackend("no backend can run this task", reasons)
        return best
