"""Delegated subscriptions within the seam: prepared and signed, posted, and followed on their chain.

A node answers `200 {}` to whatever has the right form and never says what became of it. So all that can be
checked is checked before, and what happens is read from the chain; without an RPC it ends as "unresolved",
never as a success.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.adapter import Landed, NotLanded, Recovery, Unknown
from gateway.clock import Clock
from gateway.errors import BackendError, ConfigError, CostOutcome, Rejected
from gateway.lifecycle import Status
from gateway.task import Cost, Envelope, Failure, FailureKind, Handle, Quote, Snapshot, Task
from gateway.types import JSON, Money
from gateway_infernet import delegated, wire
from gateway_infernet.config import (
    DELEGATED,
    ZERO_ADDRESS,
    ChainConfig,
    DelegatedTarget,
    InfernetConfig,
    InfernetTarget,
)
from gateway_infernet.delegated import Delegation, Subscription
from gateway_infernet.facts import Facts
from gateway_infernet.node import Node
from gateway_infernet.progress import Progress, Stage, make_snapshot

if TYPE_CHECKING:
    from gateway.chain.pool import RpcPool
    from gateway.chain.rpc import Head
    from gateway_infernet.onchain import CoordinatorReader

_UNKNOWN_SET = "list index out of range"  # what a node says to a hash that is none of its containers'


class Delegations:
    """The part of the seam that is about delegated subscriptions."""

    def __init__(self, node: Node, config: InfernetConfig, facts: Facts, clock: Clock) -> None:
        """Make it without I/O; nothing of the chain's libraries is imported before it is used."""
        self._name = node.name
        self._node = node
        self._chain = config.chain
        self._facts = facts
        self._clock = clock
        self._rpc: RpcPool | None = None
        self._reader: CoordinatorReader | None = None

    async def make_payload(
        self, task: Task, target: InfernetTarget, words: DelegatedTarget, attempt_id: str
    ) -> dict[str, JSON]:
        """Check, sign, and let the coordinator verify the signature where an RPC is configured.

        Raises InvalidInput, Rejected, or Unavailable where the node or the RPC can't be asked.
        """
        data = wire.make_data(task.input)
        if task.stream:
            raise Rejected("a delegated subscription can't be streamed", backend=self._name)
        async with self._named():
            chain = await self._check_abilities()
            delegation = await self._sign(chain, target, words, attempt_id)
            delegated.check_locally(delegation.subscription, delegation.signature, now=self._clock.now())
            wire.encode_body(_encode_body(delegation, data), backend=self._name)
            if (reader := self._get_reader()) is not None:
                await reader.preflight(delegation.subscription, delegation.signature)
        return {"kind": DELEGATED, "delegation": delegation.encode(), "data": data}

    async def submit(self, envelope: Envelope) -> Handle:
        """Post it. The same owner and nonce yield one subscription, however often they are posted."""
        delegation = Delegation.parse(envelope.payload["delegation"])
        async with self._named():
            delegated.check_locally(delegation.subscription, delegation.signature, now=self._clock.now())
            body = wire.encode_body(_encode_body(delegation, envelope.payload["data"]), backend=self._name)
            try:
                answer = await self._node.post_job(delegation.job_id, body)
            except BackendError as error:
                if _UNKNOWN_SET not in error.message:
                    raise
                names = ", ".join(delegation.subscription.containers)
                raise Rejected(
                    f"the node has no such containers in this order: {names}",
                    job_id=delegation.job_id,
                    http_status=error.http_status,
                    detail=error.detail,
                ) from error
        wire.parse_object(answer, "POST /api/jobs", backend=self._name)
        return _make_handle(envelope, delegation)

    async def look(self, handles: Sequence[Handle]) -> dict[Handle, Snapshot]:
        """Follow them on the chain, all in a few requests."""
        delegations = {handle: Delegation.parse(handle.detail["delegation"]) for handle in handles}
        reader = self._get_reader() if handles else None  # it imports web3
        if reader is None:
            return {handle: self._look_blindly(handle, delegations[handle]) for handle in handles}
        async with self._named():
            progress = await reader.fetch_progress(list(delegations.values()))
        return {
            handle: _with_cost(make_snapshot(of, progress[of], backend=self._name), of, progress[of])
            for handle, of in delegations.items()
        }

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look for it on the chain. What is not there yet may still come while its signature holds.

        A repeat would change nothing; but calling it not landed would let the run go elsewhere when the
        repeat can't be sent, and then two backends might run (and be paid for) it.
        """
        delegation = Delegation.parse(envelope.payload["delegation"])
        reader = self._get_reader()
        if reader is None:
            return Unknown(f"{self._name}: {_BLIND}")
        try:
            async with self._named():
                progress = (await reader.fetch_progress([delegation]))[delegation]
        except BackendError as error:
            return Unknown(str(error))
        if progress.stage in (Stage.EXPIRED, Stage.FOREIGN):
            return NotLanded(final=True)
        if progress.stage is Stage.WAITING:
            expiry = delegation.signature.expiry
            return Unknown(f"not on the chain yet; a node that has it may create it until {expiry}")
        return Landed(_make_handle(envelope, delegation))

    async def aclose(self) -> None:
        """Close the connections to the RPC."""
        if self._rpc is not None:
            await self._rpc.aclose()
            self._rpc = self._reader = None

    async def _check_abilities(self) -> ChainConfig:
        if self._chain is None:
            raise Rejected(f"delegated subscriptions need a table [backends.{self._name}.chain]")
        if await self._facts.fetch_version() < (1,):
            raise Rejected("the delegated subscriptions of nodes before 1.0 are others, and not spoken here")
        if not await self._facts.fetch_chain_enabled():
            raise Rejected("the node's chain is disabled, so it takes no delegated subscriptions")
        return self._chain

    async def _sign(
        self, chain: ChainConfig, target: InfernetTarget, words: DelegatedTarget, attempt_id: str
    ) -> Delegation:
        now = int(self._clock.now().timestamp())
        head: Head | None = None
        if (reader := self._get_reader()) is not None:
            deployment = await reader.resolve()
            chain_id, coordinator = deployment.chain_id, deployment.coordinator
            head = await reader.fetch_head()
            if chain.chain_id not in (None, chain_id):
                raise ConfigError(f"the RPC shows chain {chain_id}, and {chain.chain_id} is configured")
        else:
            # The configuration has both where it has no RPC.
            chain_id, coordinator = chain.chain_id or 0, chain.coordinator or ZERO_ADDRESS
        # Both clocks count: the node's own for what it accepts, the chain's for what it creates.
        begins, latest = (now, now) if head is None else (min(now, head.timestamp), max(now, head.timestamp))
        subscription = Subscription(
            containers=tuple(target.containers),
            active_at=begins if words.active_at is None else words.active_at,
            **words.model_dump(exclude={"active_at", "nonce", "expires_in_seconds"}),
        )
        nonce = delegated.make_nonce(attempt_id) if words.nonce is None else words.nonce
        expiry = latest + words.expires_in_seconds
        key = chain.private_key.get_secret_value()
        signature = delegated.sign(subscription, nonce, expiry, key, chain_id, coordinator)
        return Delegation(
            subscription=subscription,
            signature=signature,
            chain_id=chain_id,
            coordinator=coordinator,
            from_block=0 if head is None else head.number,
        )

    def _look_blindly(self, handle: Handle, delegation: Delegation) -> Snapshot:
        if not self._is_expired(delegation):
            return Snapshot(status=Status.RUNNING, message=f"posted; {_BLIND}")
        failure = Failure(
            kind=FailureKind.UNRESOLVED,
            message=f"its signature is over, and {_BLIND}",
            backend=self._name,
            job_id=handle.job_id,
        )
        return Snapshot(status=Status.FAILED, failure=failure, cost=Cost(outcome=CostOutcome.UNKNOWN))

    def _is_expired(self, delegation: Delegation) -> bool:
        return self._clock.now().timestamp() >= delegation.signature.expiry

    def _get_reader(self) -> CoordinatorReader | None:
        chain = self._chain
        if self._reader is None and chain is not None and chain.rpc_url is not None:
            from gateway.chain.pool import RpcPool
            from gateway_infernet.onchain import CoordinatorReader

            self._rpc = RpcPool([chain.rpc_url.get_secret_value()], clock=self._clock)
            address = chain.registry or chain.coordinator or ZERO_ADDRESS
            self._reader = CoordinatorReader(
                self._rpc, address, inbox=chain.inbox, confirmations=chain.confirmations
            )
        return self._reader

    @asynccontextmanager
    async def _named(self) -> AsyncIterator[None]:
        """Put our name on what the chain's side raises; a wrong configuration refuses this task, no more."""
        try:
            yield
        except ConfigError as error:
            raise Rejected(str(error), backend=self._name) from error
        except BackendError as error:
            error.backend = error.backend or self._name
            raise


_BLIND = "without chain.rpc_url nobody can know what becomes of it: a node tells its log only"


def make_quote(words: DelegatedTarget, chain: ChainConfig | None, now: datetime) -> Quote:
    """Return what the owner's wallet would pay: for each answer to each interval, in the token.

    Fewer answers cost less; the node pays the gas.
    """
    if words.payment_amount == 0:
        return Quote(expected=None, upper=None, confidence="free", quoted_at=now)
    count = words.frequency * words.redundancy
    price = _make_money(words.payment_amount * count, words.payment_token, chain.chain_id if chain else None)
    detail = {"answers": count, "payment_amount": words.payment_amount, "payment_token": words.payment_token}
    return Quote(
        expected=price,
        upper=price,
        confidence="unknown" if price is None else "range",
        quoted_at=now,
        detail=detail,
    )


def _make_money(amount: int, token: str, chain_id: int | None) -> Money | None:
    if token == ZERO_ADDRESS:
        return Money(amount, "ETH")
    return None if chain_id is None else Money(amount, f"erc20:{chain_id}:{token.lower()}")


def _with_cost(snapshot: Snapshot, delegation: Delegation, progress: Progress) -> Snapshot:
    """Put the payments for the answers onto the bill; with a verifier they come later, or never."""
    sub = delegation.subscription
    if not snapshot.status.is_final:
        return snapshot
    if sub.payment_amount == 0 or not progress.deliveries:
        return replace(snapshot, cost=Cost(outcome=CostOutcome.NOT_CHARGED))
    if sub.verifier != ZERO_ADDRESS:
        return replace(snapshot, cost=Cost(outcome=CostOutcome.UNKNOWN))
    paid = sub.payment_amount * len(progress.deliveries)
    return replace(
        snapshot,
        cost=Cost(
            settled=_make_money(paid, sub.payment_token, delegation.chain_id),
            outcome=CostOutcome.CHARGED,
            evidence=[delivery.transaction for delivery in progress.deliveries],
        ),
    )


def _encode_body(delegation: Delegation, data: Mapping[str, JSON]) -> dict[str, JSON]:
    return delegated.encode_request(delegation.subscription, delegation.signature, data)


def _make_handle(envelope: Envelope, delegation: Delegation) -> Handle:
    detail = {"kind": DELEGATED, "delegation": envelope.payload["delegation"]}
    return Handle(envelope.backend, delegation.job_id, detail)
