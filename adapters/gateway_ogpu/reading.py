"""What the contracts hold: sources, tasks, responses, balances, in batches and at one block."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.chain.endpoint import InternalError
from gateway.chain.rpc import Question, Reverted, RpcRefused
from gateway.errors import BackendError, Misbehaved
from gateway_ogpu.contracts import ZERO_ADDRESS, encode_call, parse_result, to_checksum
from gateway_ogpu.wire import (
    DeliveryMethod,
    Environment,
    ResponseStatus,
    SourceStatus,
    TaskStatus,
    parse_enum,
)

if TYPE_CHECKING:
    from gateway.chain.rpc import Asks
    from gateway_ogpu.config import Contracts

View: TypeAlias = tuple[Any, ...]
"""(contract, function, arguments...)"""


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the chain has it. Payments and lockups are in wei of OGPU, durations in seconds."""

    address: str
    status: SourceStatus
    client: str
    metadata_url: str
    environments: Environment
    min_payment: int
    min_lockup: int
    max_expiry_seconds: int
    privacy: bool
    optional_params_url: str
    delivery: DeliveryMethod
    updated_at: int


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether somebody may publish under a source, and from what it is paid.

    Attributes:
        source: as the chain has it.
        is_allowed: they are its client, or act for it.
        balance: of the client in the vault, in wei of OGPU.
    """

    source: Source
    is_allowed: bool
    balance: int


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a task: `url` names its content and is never fetched as it stands."""

    address: str
    task: str
    provider: str
    url: str
    payment: int
    status: ResponseStatus
    is_final: bool
    submitted_at: int


@dataclass(frozen=True, slots=True)
class TaskOnChain:
    """A task as the chain has it; `expires_at` and the times of attempts in seconds since the epoch."""

    address: str
    source: str
    config_url: str
    expires_at: int
    payment: int
    status: TaskStatus
    delivery: DeliveryMethod
    attempts: int
    winner: str | None
    frozen: int
    responses: tuple[Response, ...] = ()

    @property
    def confirmed(self) -> Response | None:
        """Return the response that was confirmed, if one is shown."""
        confirmed = (r for r in self.responses if r.is_final or r.status is ResponseStatus.CONFIRMED)
        chosen = next(confirmed, None)
        if chosen is None and self.winner is not None:
            chosen = next((r for r in self.responses if r.provider == self.winner), None)
        return chosen


@dataclass(frozen=True, slots=True)
class Balances:
    """What an account has: in its wallet (for gas), and in the vault. All in wei of OGPU."""

    account: str
    wallet: int
    vault: int
    lockup: int
    unbonding: int
    unbonding_since: int
    earnings: int
    sanction: int


async def fetch_views(rpc: Asks, views: Sequence[View], *, block: int | None = None) -> list[Any]:
    """Call views in one batch; None where there is no such contract, or the view reverts.

    Raises as `gateway.chain.rpc.request` if the RPC itself fails.
    """
    at = "latest" if block is None else hex(block)
    questions: list[Question] = [
        ("eth_call", [{"to": view[0], "data": "0x" + encode_call(view[1], *view[2:]).hex()}, at])
        for view in views
    ]
    outcomes = await rpc.ask(questions) if questions else []
    return [_read(view[1], outcome) for view, outcome in zip(views, outcomes, strict=True)]


def _read(function: str, outcome: Any) -> Any:
    if isinstance(outcome, Reverted):
        return None
    if isinstance(outcome, RpcRefused | InternalError) and "opcode" in outcome.message.lower():
        return None  # a panic of old compilers, in the words of old nodes
    if isinstance(outcome, BackendError):
        raise outcome
    if outcome in ("0x", None):
        return None
    try:
        return parse_result(function, bytes.fromhex(str(outcome).removeprefix("0x")))
    except ValueError as error:
        raise Misbehaved(f"the RPC's answer to {function} is not hex") from error


async def fetch_source(rpc: Asks, nexus: str, address: str, *, block: int | None = None) -> Source | None:
    """Fetch a source; None if the Nexus has none of that address."""
    number, status, params = await fetch_views(
        rpc,
        [(nexus, "getSourceId", address), (address, "getStatus"), (address, "getSourceParams")],
        block=block,
    )
    if not number or status is None or params is None:
        return None
    client, url, environments, least, lockup, longest, privacy, optional, delivery, updated = params
    return Source(
        address=to_checksum(address),
        status=parse_enum(SourceStatus, status),
        client=client,
        metadata_url=url,
        environments=Environment(environments),
        min_payment=least,
        min_lockup=lockup,
        max_expiry_seconds=longest,
        privacy=privacy,
        optional_params_url=optional,
        delivery=parse_enum(DeliveryMethod, delivery),
        updated_at=updated,
    )


async def fetch_tasks(
    rpc: Asks, vault: str, addresses: Sequence[str], *, block: int | None = None
) -> Mapping[str, TaskOnChain | None]:
    """Fetch many tasks with their responses in three batches; None where there is no task (yet)."""
    names = ("taskParams", "getStatus", "getDeliveryMethod", "getAttemptCount", "winningProvider")
    views: list[View] = []
    for address in addresses:
        views += [(address, name) for name in names]
        views.append((vault, "frozenPayment", address))
    answers = await fetch_views(rpc, views, block=block)
    rows = {
        address: answers[place : place + len(names) + 1]
        for address, place in zip(addresses, range(0, len(answers), len(names) + 1), strict=True)
    }
    counts = {address: row[3] for address, row in rows.items() if not _is_blank(row[0]) and row[3]}
    responses = await fetch_responses(rpc, counts, block=block)
    return {
        address: None if _is_blank(row[0]) else _make_task(address, row, responses.get(address, ()))
        for address, row in rows.items()
    }


def _is_blank(struct: Sequence[Any] | None) -> bool:
    """Say whether nothing is there (yet): no contract, or one whose first word, an address, is zero."""
    return struct is None or struct[0] == ZERO_ADDRESS


def _make_task(address: str, row: Sequence[Any], responses: Sequence[Response]) -> TaskOnChain:
    (source, url, expires_at, payment), status, delivery, attempts, winner, frozen = row
    return TaskOnChain(
        address=to_checksum(address),
        source=source,
        config_url=url,
        expires_at=expires_at,
        payment=payment,
        status=parse_enum(TaskStatus, status),
        delivery=parse_enum(DeliveryMethod, delivery),
        attempts=attempts or 0,
        winner=winner if winner not in (None, ZERO_ADDRESS) else None,
        frozen=frozen or 0,
        responses=tuple(responses),
    )


async def fetch_responses(
    rpc: Asks, counts: Mapping[str, int], *, block: int | None = None
) -> dict[str, tuple[Response, ...]]:
    """Fetch the responses of tasks, whose numbers of attempts are given.

    Both bounds of `getResponsesOf` belong to the range, and beyond the list it panics; there is one slot per
    attempt, and zero stands in those without an answer.
    """
    lists = await fetch_views(
        rpc, [(task, "getResponsesOf", 0, count - 1) for task, count in counts.items()], block=block
    )
    found = {
        task: [one for one in some or () if one != ZERO_ADDRESS]
        for task, some in zip(counts, lists, strict=True)
    }
    addresses = [one for some in found.values() for one in some]
    names = ("getResponseParams", "getStatus", "confirmedFinal", "responseTimestamp")
    answers = await fetch_views(rpc, [(one, name) for one in addresses for name in names], block=block)
    rows = {one: answers[4 * place : 4 * place + 4] for place, one in enumerate(addresses)}
    return {
        task: tuple(_make_response(one, rows[one]) for one in some if not _is_blank(rows[one][0]))
        for task, some in found.items()
    }


def _make_response(address: str, row: Sequence[Any]) -> Response:
    (task, provider, url, payment), status, is_final, submitted_at = row
    return Response(
        address=address,
        task=task,
        provider=provider,
        url=url,
        payment=payment,
        status=parse_enum(ResponseStatus, status),
        is_final=bool(is_final),
        submitted_at=submitted_at or 0,
    )


async def fetch_is_agent(
    rpc: Asks, terminal: str, client: str, agent: str, *, block: int | None = None
) -> bool:
    """Say whether somebody may act for a client: set as its agent, or the network's default one."""
    answers = await fetch_views(
        rpc,
        [(terminal, "isAgentOf", client, agent), (terminal, "getIsAgentOf", client, agent)],
        block=block,
    )
    return any(answers)


async def fetch_admission(
    rpc: Asks,
    contracts: Contracts,
    source: str,
    account: str,
    *,
    likely_client: str,
    block: int | None = None,
) -> Admission | None:
    """Fetch what decides whether an account may publish under a source; None if there is no such source.

    Whose vault and agents to ask for is known once the source is: `likely_client` is asked in the same
    moment, and if it is another one after all, that one afterwards.
    """

    async def fetch_client(client: str) -> tuple[bool, int]:
        is_agent, [balance] = await asyncio.gather(
            fetch_is_agent(rpc, contracts.terminal, client, account, block=block),
            fetch_views(rpc, [(contracts.vault, "balanceOf", client)], block=block),
        )
        return is_agent or client == account, balance or 0

    found, (is_allowed, balance) = await asyncio.gather(
        fetch_source(rpc, contracts.nexus, source, block=block), fetch_client(likely_client)
    )
    if found is None:
        return None
    if found.client != likely_client:
        is_allowed, balance = await fetch_client(found.client)
    return Admission(found, is_allowed, balance)


async def fetch_balances(rpc: Asks, vault: str, account: str) -> Balances:
    """Fetch what an account has."""
    from gateway.chain.refusals import fetch_balance

    names = (
        "balanceOf",
        "lockupOf",
        "unbondingOf",
        "unbondingTimestamp",
        "totalEarningsOf",
        "sanctionOf",
    )
    wallet = await fetch_balance(rpc, account)
    found = await fetch_views(rpc, [(vault, name, account) for name in names])
    numbers = [one or 0 for one in found]
    return Balances(to_checksum(account), wallet, *numbers)
