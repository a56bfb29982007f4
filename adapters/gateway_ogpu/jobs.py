"""What is known of the jobs that are followed, and of the transactions that ended them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.chain.receipts import Receipt, fetch_receipts
from gateway_ogpu.agreement import PATIENCE_SECONDS
from gateway_ogpu.contracts import parse_event
from gateway_ogpu.wire import TaskStatus

if TYPE_CHECKING:
    from gateway.chain.prepared import Prepared
    from gateway.chain.rpc import Log
    from gateway.task import Handle, Snapshot
    from gateway_ogpu.connection import Connection
    from gateway_ogpu.reading import TaskOnChain

_CLOSED = (TaskStatus.FINALIZED, TaskStatus.CANCELED)


@dataclass(slots=True)
class Job:
    """What is known of one handle's job. Times are those of the monotonic clock.

    Attributes:
        birth: the events of its publication: as long as there are no others, the task is new.
        logs: the events at which `seen` was looked at.
        seen_at: the time of the block at which `seen` was so, in seconds since the epoch.
        doubted_until: what was told of it does not fit together, and is looked at again until then at least.
        closing: the receipts of transactions that ended it.
        unbilled_until: some of these are not shown, and so long is waited for them.
        vain: the receipts of transactions of ours that were to end it, and came too late.
    """

    handle: Handle
    since: float
    asked_at: float
    prepared: Prepared | None = None
    chased_at: float = 0.0
    task: str | None = None
    receipt: Receipt | None = None
    birth: tuple[Log, ...] | None = None
    logs: tuple[Log, ...] | None = None
    seen: TaskOnChain | None = None
    seen_at: int = 0
    doubted_until: float | None = None
    closing: tuple[Receipt, ...] = ()
    unbilled_until: float | None = None
    vain: tuple[Receipt, ...] = ()
    ended: Snapshot | None = None

    @property
    def accept(self) -> str:
        """How its task's answers are accepted."""
        return str(self.handle.detail.get("accept", "first"))

    def doubt(self, now: float) -> bool:
        """Note that what was told of it does not fit together; return whether that may still pass."""
        self.doubted_until = self.doubted_until or now + PATIENCE_SECONDS
        return now < self.doubted_until

    def note_receipt(self, receipt: Receipt, nexus: str) -> bool:
        """Take the task out of its publication's receipt; False if there is none in it."""
        for log in receipt.logs:
            event = parse_event(log) if log.address.lower() == nexus.lower() else None
            if event is not None and event.name == "TaskPublished":
                self.task, self.receipt, self.doubted_until = event.arguments["task"], receipt, None
                if "source" in self.handle.detail:  # it says what was published; a bare hash does not
                    self.birth = tuple(one for one in receipt.logs if _is_about(one, nexus, self.task))
                return True
        return False

    def has_news(self, logs: tuple[Log, ...], now: int, believed: int) -> bool:
        """Say whether its views may be others than those that are known.

        Args:
            logs: its events.
            now: the time of the block that they are of, in seconds since the epoch.
            believed: the number of the newest block that is believed.
        """
        if self.receipt is not None and self.receipt.block_number > believed:
            return False  # these events are older than the publication
        if self.doubted_until is not None:
            return True
        if self.seen is not None:
            is_over = self.seen_at <= self.seen.expires_at < now
            is_bare = self.seen.status is TaskStatus.FINALIZED and self.seen.confirmed is None
            return is_over or is_bare or logs != self.logs
        is_new = self.birth is not None and logs == self.birth
        return not is_new or now > int(self.handle.detail.get("expires_at", 0))


def _is_about(log: Log, nexus: str, task: str) -> bool:
    event = parse_event(log) if log.address.lower() == nexus.lower() else None
    return event is not None and event.arguments.get("task") == task


async def find_closings(connection: Connection, jobs: Sequence[Job]) -> None:
    """Find the receipts of transactions of ours that ended tasks: a confirmation's, a cancellation's."""
    ours = connection.own_address
    if ours is None:
        return
    closed = [job for job in jobs if job.seen is not None and job.seen.status in _CLOSED and not job.closing]
    ends = [_list_changes(job.logs or ()) for job in closed]
    hashes = list(dict.fromkeys(one for some in ends for one in some))
    found = dict(zip(hashes, await fetch_receipts(connection.rpc, hashes), strict=True))
    now = connection.clock.monotonic()
    for job, some in zip(closed, ends, strict=True):
        receipts = [found[one] for one in some]
        job.unbilled_until = (job.unbilled_until or now + PATIENCE_SECONDS) if None in receipts else None
        if job.unbilled_until is not None and now < job.unbilled_until:
            continue  # a replica that is behind: it is in a block, for its event is
        job.unbilled_until, published = None, job.receipt.hash if job.receipt else None
        own = (one for one in receipts if one is not None and one.sender.lower() == ours.lower())
        job.closing = tuple(one for one in own if one.hash != published)


def _list_changes(logs: Sequence[Log]) -> list[str]:
    """List the transactions in which a task's status changed."""
    events = ((log.transaction, parse_event(log)) for log in logs)
    changes = [wanted for wanted, event in events if event is not None and event.name == "TaskStatusChanged"]
    return list(dict.fromkeys(changes))
