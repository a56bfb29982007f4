"""From what was seen of a task to a snapshot: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.chain.receipts import Receipt
from gateway.errors import CostOutcome
from gateway.lifecycle import Status
from gateway.task import Answer, Cost, Failure, FailureKind, Handle, Snapshot
from gateway.types import JSON, Money
from gateway_ogpu.answers import Content
from gateway_ogpu.config import ASSET
from gateway_ogpu.reading import TaskOnChain
from gateway_ogpu.wire import STATUS, DeliveryMethod, TaskStatus


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what, in seconds of the chain's time."""

    confirm_after: float
    collect_for: float
    content: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a task.

    Attributes:
        backend: the configured name.
        job_id: the handle's.
        task: as the chain has it at this block.
        now: the newest block's time in seconds since the epoch.
        seen_at: the time of the block at which the task was as it is here.
        contents: of the responses' URLs, as far as they were read.
        accept: how the task's answers are accepted.
        publication: the receipt of its transaction, if it is known.
        closing: the receipts of transactions of ours that confirmed an answer or cancelled the task, or were
            to and came too late.
        patience: see Patience.
        finished_at: when it was seen to be final first, if it is.
    """

    backend: str
    job_id: str
    task: TaskOnChain
    now: int
    seen_at: int
    contents: Mapping[str, Content]
    accept: str
    patience: Patience
    publication: Receipt | None = None
    closing: tuple[Receipt, ...] = ()

    @property
    def is_over_time(self) -> bool:
        """Say whether the task has expired: the chain says so only when somebody attempts it after that.

        Until then an answer may have come that this look does not show: the time is that of what was seen.
        """
        return self.seen_at > self.task.expires_at


def make_published(handle: Handle, task: str, receipt: Receipt) -> Snapshot:
    """Return the snapshot of a task of which there is no news since its publication: it is as it was sent."""
    detail: dict[str, JSON] = {
        "task": task,
        "source": handle.detail["source"],
        "status": TaskStatus.NEW.name,
        "attempts": 0,
        "responses": [],
        "payment": str(Money(int(handle.detail["payment"]), ASSET)),
        "expires_at": handle.detail["expires_at"],
        "transaction": receipt.hash,
    }
    return Snapshot(status=STATUS[TaskStatus.NEW], message=TaskStatus.NEW.name, detail=detail)


def make_snapshot(look: Look) -> Snapshot:
    """Return what a look means."""
    task = look.task
    if task.status is TaskStatus.FINALIZED:
        return _make_finished(look)
    if task.status is TaskStatus.CANCELED:
        return _fail(look, Status.CANCELLED, FailureKind.CANCELLED, "the task was cancelled", _refunded(look))
    if task.status is TaskStatus.EXPIRED:
        message = "the task expired, and its payment was refunded"
        return _fail(look, Status.FAILED, FailureKind.EXPIRED, message, _refunded(look))
    answers = _make_answers(look) if task.status is TaskStatus.RESPONDED else ()
    if look.is_over_time and not any(answer.valid for answer in answers) and not _may_be_read(look):
        return _make_expired(look, answers)
    return Snapshot(
        status=STATUS[task.status],
        answers=answers if _is_time_to_accept(look, answers) else (),
        message=task.status.name,
        detail=_describe(look),
    )


def _make_answers(look: Look) -> tuple[Answer, ...]:
    whole = look.task.delivery is DeliveryMethod.FIRST_RESPONSE
    answers = []
    for response in sorted(look.task.responses, key=lambda r: r.submitted_at):
        content = look.contents.get(response.url, Content(reason="it was not read yet", may_come=True))
        price = look.task.payment if whole else response.payment
        answers.append(
            Answer(
                id=response.address,
                output=content.output,
                price=Money(price, ASSET),
                valid=content.reason is None,
                reason=content.reason,
            )
        )
    return tuple(answers)


def _may_be_read(look: Look) -> bool:
    """Say whether an answer can't be read yet, and that for less long than is waited for it."""
    return look.task.status is TaskStatus.RESPONDED and any(
        response.url not in look.contents or look.contents[response.url].may_come
        for response in look.task.responses
        if look.now - response.submitted_at < look.patience.content
    )


def _is_time_to_accept(look: Look, answers: tuple[Answer, ...]) -> bool:
    if not answers:
        return False
    first = min(response.submitted_at for response in look.task.responses)
    if look.task.delivery is DeliveryMethod.FIRST_RESPONSE:
        return look.now - first >= look.patience.confirm_after
    if look.accept != "cheapest":
        return True
    return look.now - first >= look.patience.collect_for or look.is_over_time


def _make_finished(look: Look) -> Snapshot:
    response = look.task.confirmed
    if response is None:
        message = "the task is final, and its answer is not shown yet"
        return Snapshot(status=Status.UPLOADING, message=message, detail=_describe(look))
    content = look.contents.get(response.url, Content(reason="it was not read yet", may_come=True))
    whole = look.task.delivery is DeliveryMethod.FIRST_RESPONSE
    paid = look.task.payment if whole else response.payment
    cost = Cost(
        settled=Money(paid + _get_gas_cost(look), ASSET),
        outcome=CostOutcome.CHARGED,
        evidence=_make_evidence(look, payment=str(Money(paid, ASSET))),
    )
    if content.reason is None:
        return Snapshot(
            status=Status.COMPLETED,
            output=content.output,
            cost=cost,
            message=look.task.status.name,
            detail=_describe(look),
        )
    if content.may_come and look.now - response.submitted_at < look.patience.content:
        message = f"the task is final, and its answer can't be read yet: {content.reason}"
        return Snapshot(status=Status.UPLOADING, message=message, detail=_describe(look))
    message = f"the task is final and paid, and its answer can't be used: {content.reason}"
    return _fail(look, Status.FAILED, FailureKind.OUTPUT_ERROR, message, cost, code=content.code)


def _make_expired(look: Look, answers: tuple[Answer, ...]) -> Snapshot:
    who = "nobody took the task in time"
    if look.task.status is TaskStatus.ATTEMPTED:
        who = "the providers that took the task did not answer in time"
    if answers:
        why = "; ".join(f"{answer.id}: {answer.reason}" for answer in answers)
        who = f"no answer to the task can be accepted ({why})"
    frozen = Money(look.task.frozen or look.task.payment, ASSET)  # what is not refunded is frozen
    back = "cancel_task gets it back" if look.task.status is TaskStatus.NEW else "the next attempt refunds it"
    evidence = _make_evidence(look, frozen=str(frozen))
    if frozen.amount:
        cost = Cost(outcome=CostOutcome.UNKNOWN, evidence=evidence)
        message = f"{who}; {frozen} is still frozen for it: {back}"
    else:
        cost, message = replace(_refunded(look), evidence=evidence), who
    return _fail(look, Status.FAILED, FailureKind.EXPIRED, message, cost)


def make_reverted(backend: str, receipt: Receipt, reason: str, code: str | None) -> Snapshot:
    """Return the snapshot of a publication that the chain took and the contracts refused."""
    failure = Failure(
        kind=FailureKind.REJECTED,
        message=f"the publication reverted in its block ({reason}); only its gas was paid",
        backend=backend,
        job_id=receipt.hash,
        code=code,
    )
    cost = Cost(
        settled=Money(receipt.cost, ASSET),
        outcome=CostOutcome.NOT_CHARGED,
        evidence=_describe_receipt(receipt),
    )
    return Snapshot(status=Status.REJECTED, failure=failure, cost=cost)


def make_lost(backend: str, job_id: str, message: str) -> Snapshot:
    """Return the snapshot of a job that is not there and will not be."""
    failure = Failure(kind=FailureKind.LOST, message=message, backend=backend, job_id=job_id)
    return Snapshot(status=Status.FAILED, failure=failure)


def make_never_published(backend: str, job_id: str, message: str, kind: FailureKind) -> Snapshot:
    """Return the snapshot of a publication of which provably nothing came."""
    failure = Failure(kind=kind, message=message, backend=backend, job_id=job_id)
    cost = Cost(outcome=CostOutcome.NOT_CHARGED, evidence={"transaction": job_id})
    return Snapshot(status=Status.FAILED, failure=failure, cost=cost)


def _fail(
    look: Look, status: Status, kind: FailureKind, message: str, cost: Cost, *, code: str | None = None
) -> Snapshot:
    failure = Failure(
        kind=kind,
        message=message,
        backend=look.backend,
        job_id=look.job_id,
        code=code or look.task.status.name,
    )
    return Snapshot(status=status, failure=failure, cost=cost, detail=_describe(look))


def _refunded(look: Look) -> Cost:
    """Make the bill of a task whose payment came back: the network keeps the gas, nobody else anything."""
    gas = Money(_get_gas_cost(look), ASSET) if look.publication is not None else None
    return Cost(settled=gas, outcome=CostOutcome.NOT_CHARGED, evidence=_make_evidence(look))


def _make_evidence(look: Look, **more: JSON) -> JSON:
    evidence: dict[str, Any] = {"task": look.task.address, "status": look.task.status.name, **more}
    if look.publication is not None:
        evidence["publication"] = _describe_receipt(look.publication)
    if look.closing:
        evidence["closing"] = [_describe_receipt(receipt) for receipt in look.closing]
    return evidence


def _describe_receipt(receipt: Receipt) -> dict[str, JSON]:
    return {
        "transaction": receipt.hash,
        "block": receipt.block_number,
        "gas_cost": str(Money(receipt.cost, ASSET)),
    }


def _get_gas_cost(look: Look) -> int:
    publication = look.publication.cost if look.publication is not None else 0
    return publication + sum(receipt.cost for receipt in look.closing)


def _describe(look: Look) -> dict[str, JSON]:
    task = look.task
    detail: dict[str, JSON] = {
        "task": task.address,
        "source": task.source,
        "status": task.status.name,
        "attempts": task.attempts,
        "responses": [response.address for response in task.responses],
        "payment": str(Money(task.payment, ASSET)),
        "expires_at": task.expires_at,
    }
    if look.publication is not None:
        detail["transaction"] = look.publication.hash
    if task.confirmed is not None and task.status is TaskStatus.FINALIZED:
        detail |= {"response": task.confirmed.address, "provider": task.confirmed.provider}
    return detail
