"""The seam: what the gateway asks of a backend, and nothing more.

An adapter translates one kind of backend into the gateway's words. docs/adapters.md shows one in six steps,
`gateway.testing.AdapterConformance` checks it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeAlias, TypeVar

from gateway.clock import Clock, SystemClock
from gateway.errors import NotSupported
from gateway.task import Envelope, Event, Handle, Quote, Snapshot, Task
from gateway.types import JSON, AttemptId, RateLimit, hide_userinfo

if TYPE_CHECKING:
    from pydantic import BaseModel

ConfigT = TypeVar("ConfigT", bound="BaseModel")
ResultT = TypeVar("ResultT")


class Feature(StrEnum):
    """What a backend can do beyond running jobs."""

    STREAM = "stream"  # pieces of output as they come
    EVENTS = "events"  # news of a job without polling
    CANCEL = "cancel"
    QUOTE = "quote"
    ACCEPT = "accept"  # answers want accepting
    PROOF = "proof"
    RECALL = "recall"  # recover() knows for certain


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Facts about a backend, as far as it tells; also the health check.

    Attributes:
        healthy: it answers and can take jobs.
        version: its own version, if it says.
        features: what it can do.
        poll_many: how many handles one `poll` may carry.
        free: its jobs cost nothing.
        offers: what it can run, in its own words (container ids, app names); None if it can't be listed.
        reason: why it is not healthy, or what is odd.
        detail: what else it said.
    """

    healthy: bool
    version: str | None = None
    features: frozenset[Feature] = frozenset()
    poll_many: int = 1
    free: bool = False
    offers: frozenset[str] | None = None
    reason: str | None = None
    detail: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Landed:
    """The submission reached the backend: follow it there."""

    handle: Handle


@dataclass(frozen=True, slots=True)
class NotLanded:
    """It did not.

    Attributes:
        final: this envelope can never land any more; else the same one may be sent again.
        lingers: it may land without being sent again, as a signed transaction does whose nonce is wanted.
            It is sent all the same if its run was called off: what has landed can be followed, and cancelled.
    """

    final: bool = False
    lingers: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say, at least not yet."""

    reason: str


Recovery: TypeAlias = Landed | NotLanded | Unknown


class CancelOutcome(StrEnum):
    """What became of the wish to cancel."""

    CANCELLED = "cancelled"  # it is over
    REQUESTED = "requested"  # the backend will see to it; poll on
    TOO_LATE = "too_late"  # it had ended, or can't be stopped any more; poll on


class Notebook(Protocol):
    """Small documents that all processes of a store share: what they must agree on before an act."""

    async def change(self, name: str, work: Callable[[bytes | None], tuple[bytes, ResultT]]) -> ResultT:
        """Let `work` make a document's text from its old one (None: there is none); return its result.

        No other process changes it meanwhile, and what returns is on the disk. `work` is quick, changes
        nothing else, and may be called again. If this raises (StoreError, and what `work` raises), nothing
        has changed.
        """


class Adapter(ABC, Generic[ConfigT]):
    """One backend, spoken to in the gateway's own words. It translates.

    It does not retry a submission, choose, persist, or decide what a failure means for the run: the engine
    does that above it. Errors are the leaves of `gateway.errors.BackendError`; which leaf says whether
    the act landed. A failed job is a Snapshot, not an error.
    """

    config_type: ClassVar[type[BaseModel]]
    """The pydantic model of its table in the configuration (`adapter` is taken out before)."""
    target_type: ClassVar[type[BaseModel]]
    """The pydantic model of its targets (`input`, `output` and `cost` are taken out before)."""

    def __init__(self, name: str, config: ConfigT, *, clock: Clock | None = None) -> None:
        """Make it without any I/O. `name` is the backend's name in the configuration."""
        self.name = name
        self.config = config
        self.clock: Clock = clock or SystemClock()

    def lend(self, notebook: Notebook) -> None:
        """Take the store's notebook, before the first act, from the gateway that opened the store."""

    @property
    def address(self) -> str:
        """Where the backend is in the world, without secrets; a job is only looked for at its own address."""
        return hide_userinfo(str(getattr(self.config, "url", "")))

    @property
    def rate_limit(self) -> RateLimit | None:
        """Say what the newest answer to a submission told of the backend's limit; a new object each time.

        An adapter that paces its submissions itself says nothing here, and raises Throttled with `unsent`.
        """
        return None

    @abstractmethod
    async def capabilities(self) -> Capabilities:
        """Ask the backend what it is and can. A backend that is down gives healthy=False, not an error."""

    @abstractmethod
    async def prepare(self, task: Task, target: Mapping[str, JSON], *, attempt_id: AttemptId) -> Envelope:
        """Make everything ready so that `submit` is one act. It never spends.

        `task.input` is already reshaped for this target. Raises Rejected (or InvalidInput) when the backend
        could not take it, Unavailable when something needed for it (an upload, a fee) can't be had now.
        """

    @abstractmethod
    async def submit(self, envelope: Envelope) -> Handle:
        """Do the one irreversible act, once, without waiting for the job.

        Raises Rejected, Unavailable or Throttled only where the act provably did not land, otherwise
        InDoubt or Misbehaved.
        """

    @abstractmethod
    async def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Snapshot]:
        """Look at many jobs in as few requests as the backend allows; read-only.

        A handle that is missing in the answer has no news. Raising means no news of any, and changes nothing.
        """

    @abstractmethod
    async def recover(self, envelope: Envelope) -> Recovery:
        """After a crash or a lost answer: find out whether the act landed. Read-only."""

    async def quote(self, task: Task, target: Mapping[str, JSON]) -> Quote:
        """Say what the task would cost. It never spends."""
        raise NotSupported(f"{self.name} gives no quotes")

    def events(self, handle: Handle, *, after: int | None = None) -> AsyncIterator[Event]:
        """Yield snapshots and pieces of a job as they come; ends when there is nothing more to come.

        The end of the iteration is no proof of the job's end: the engine polls afterwards.
        """
        raise NotSupported(f"{self.name} has no events")

    async def cancel(self, handle: Handle) -> CancelOutcome:
        """Ask the backend to stop a job."""
        raise NotSupported(f"{self.name} can't cancel jobs")

    async def accept(self, handle: Handle, snapshot: Snapshot) -> Envelope:
        """Prepare the act that accepts, and pays for, the one answer that `snapshot.answers` holds."""
        raise NotSupported(f"answers of {self.name} need no accepting")

    async def aclose(self) -> None:
        """Let go of connections. The adapter is not used afterwards."""
