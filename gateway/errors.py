"""Every error of the gateway, in one tree.

    GatewayError
    ├── ConfigError                 the configuration is wrong; nothing was done
    │   └── SecretMissing           a secret that it names is not set
    ├── BudgetExceeded              a budget has not enough left; names it, what is used and the limit
    ├── NoRate                      a price can't be told in the reporting currency
    ├── TaskError                   the task can't be run as it stands; nothing was submitted
    │   ├── UnknownModel
    │   ├── UnknownBackend
    │   ├── IdempotencyConflict     the key was used for another task
    │   └── InvalidInput            input, target or a limit that no backend could take
    ├── NoBackend                   every candidate was removed; lists each with the rule
    ├── RunError                    about one run
    │   ├── RunNotFound
    │   ├── RunExists               a run with this idempotency key is there already
    │   ├── RunFailed               the run ended FAILED, REJECTED or CANCELLED; carries the Run
    │   ├── RunTakenOver            another process works on this run now
    │   └── WaitTimeout             the run goes on, only the waiting ended
    ├── StoreError                  what must be written down could not be
    │   └── StoreTooNew             a newer program wrote this store
    ├── Unusable                    this gateway was closed, or is another event loop's or process's
    ├── AdapterBroken               a plug-in can't be loaded or breaks the seam
    ├── NotSupported                this backend has no such operation
    └── BackendError                a backend said no, or nothing
        ├── Rejected                it refused this: no/no/yes
        ├── Unavailable             it could not be reached or is down: no/yes/yes
        │   └── Throttled           it wants us to wait: no/yes/yes, with retry_after
        ├── InDoubt                 the submission may have landed, its answer is lost: ?/no/no
        └── Misbehaved              it answered what it must not: ?/no/no

The three words behind each backend error are its class variables `landed`, `here` and `elsewhere`: did the
submission reach the backend, may the same backend work later, may another work now. The retry policy is a
look-up over them, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.types import Money

if TYPE_CHECKING:
    from gateway.task import Run


class CostOutcome(StrEnum):
    """What is known about the money of an attempt. Unknown is a value, never 0."""

    NOT_CHARGED = "not_charged"
    CHARGED = "charged"
    UNKNOWN = "unknown"


class GatewayError(Exception):
    """The root. `cost_outcome` says whether what failed may have cost something."""

    cost_outcome: CostOutcome = CostOutcome.NOT_CHARGED

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as it is: Python would call `__init__` with the message alone."""
        return _make_again, (type(self), self.args, self.__dict__)


def _make_again(cls: type[GatewayError], args: tuple[object, ...], state: dict[str, object]) -> GatewayError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(GatewayError):
    """The configuration is wrong: the message names the place and what to write instead."""


class SecretMissing(ConfigError):
    """A secret that the configuration names as env:NAME or file:PATH is not there."""


class TaskError(GatewayError):
    """The task can't be run as it stands. Nothing was submitted."""


class UnknownModel(TaskError):
    """No model of that name is in the catalogue."""


class UnknownBackend(TaskError):
    """No backend of that name is configured."""


class InvalidInput(TaskError):
    """Input, target or a limit that no backend could take."""


class IdempotencyConflict(TaskError):
    """The idempotency key belongs to a run of another task; nothing was submitted."""


class BudgetExceeded(GatewayError):
    """A budget has not enough left; nothing was reserved and nothing was submitted.

    Attributes:
        budget: the budget in words.
        wanted: what would have been reserved, in the reporting currency's smallest unit.
        used: what is reserved and settled.
        limit: the most it may be.
    """

    def __init__(self, budget: str, *, wanted: int, used: int, limit: int, asset: str = "") -> None:
        used_of_it, need, most = (
            str(Money(amount, asset)) if asset else str(amount) for amount in (used, wanted, limit)
        )
        super().__init__(
            f"the budget of {budget} has not enough left: {used_of_it} of {most} is used, {need} is needed"
        )
        self.budget, self.wanted, self.used, self.limit = budget, wanted, used, limit


class NoBackend(GatewayError):
    """No candidate is left for a task.

    Attributes:
        removed: (backend, rule, reason) per candidate, in the order in which they were looked at.
    """

    def __init__(self, message: str, removed: Sequence[tuple[str, str, str]] = ()) -> None:
        self.removed = tuple(removed)
        lines = "; ".join(f"{backend}: {reason}" for backend, _, reason in self.removed)
        super().__init__(f"{message}: {lines}" if lines else message)


class RunError(GatewayError):
    """Something about one run, named by `run_id`."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunNotFound(RunError):
    """The store has no run of that id."""


class NoRate(GatewayError):
    """A price can't be told in the reporting currency: the rate is missing, or older than allowed."""


class RunExists(RunError):
    """There is a run with this idempotency key already: `run_id`."""


class RunTakenOver(RunError):
    """Another process holds this run; nothing was written."""


class RunFailed(RunError):
    """A run ended without success. `run` has the whole story: failure, attempts, cost."""

    def __init__(self, run: Run) -> None:
        self.run = run
        why = f": {run.failure.message}" if run.failure else ""
        super().__init__(f"run {run.id} ended {run.status.name}{why}", run_id=run.id)
        self.cost_outcome = run.cost_outcome


class WaitTimeout(RunError, TimeoutError):
    """The time to wait is over. The run goes on; ask again with `wait` or `get`."""

    cost_outcome = CostOutcome.UNKNOWN


class StoreError(GatewayError):
    """What must be written down before acting could not be. Nothing was submitted."""


class StoreTooNew(StoreError):
    """A newer version of the gateway wrote this store; this one would damage it."""


class Unusable(GatewayError):
    """This gateway was closed, or it belongs to another event loop or process. Runs go on all the same."""


class AdapterBroken(GatewayError):
    """A plug-in can't be loaded, or it does not keep the promises of the seam."""


class NotSupported(GatewayError):
    """This backend has no such operation; its Capabilities say which it has."""


class BackendError(GatewayError):
    """A backend said no, or nothing.

    Attributes:
        backend: the configured name.
        job_id: the backend's own id, if one is known.
        code: the backend's own word for the error.
        http_status: as received, if it came over HTTP.
        retry_after: how long the backend asked us to wait.
        detail: what else it said, as data (for instance the missing items of a 412).
    """

    landed: ClassVar[bool | None] = None
    here: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        backend: str = "",
        job_id: str | None = None,
        code: str | None = None,
        http_status: int | None = None,
        retry_after: timedelta | None = None,
        detail: object = None,
    ) -> None:
        super().__init__(f"{backend}: {message}" if backend else message)
        self.message = message
        self.backend = backend
        self.job_id = job_id
        self.code = code
        self.http_status = http_status
        self.retry_after = retry_after
        self.detail = detail
        self.cost_outcome = CostOutcome.NOT_CHARGED if self.landed is False else CostOutcome.UNKNOWN


class Rejected(BackendError):
    """The backend refused this task and will refuse it again; it did not land."""

    landed = False
    here = False
    elsewhere = True


class Unavailable(BackendError):
    """The backend could not be reached or says that it is down; nothing landed."""

    landed = False
    here = True
    elsewhere = True


class Throttled(Unavailable):
    """The backend wants us to wait (`retry_after`, if it said how long); nothing landed.

    `unsent`: it was not asked: the adapter keeps its pace and held this back itself.
    """

    def __init__(self, message: str, *, unsent: bool = False, **more: Any) -> None:
        super().__init__(message, **more)
        self.unsent = unsent


class InDoubt(BackendError):
    """The submission may have landed and its answer is lost: `recover` first."""

    landed = None
    here = False
    elsewhere = False


class Misbehaved(BackendError):
    """The backend answered what it must not (garbage, an unheard-of status): `recover` first."""

    landed = None
    here = False
    elsewhere = False
