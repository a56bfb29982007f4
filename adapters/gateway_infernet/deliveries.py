"""Which answers lie on the chain: from the log to the transaction or the inbox that holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.chain import rpc
from gateway.chain.rpc import Head, Log
from gateway.chain.scan import NARROWEST, WIDEST, is_too_wide
from gateway.errors import Misbehaved, Unavailable
from gateway_infernet import contracts
from gateway_infernet.answers import Form, parse_answer
from gateway_infernet.contracts import Deployment
from gateway_infernet.delegated import encode_container_id
from gateway_infernet.progress import Delivery, get_interval
from gateway_infernet.subscription import Delegation, to_checksum

if TYPE_CHECKING:
    from gateway.chain.rpc import Asks, Web3

_MAX_KEPT = 4096


@dataclass(frozen=True, slots=True)
class _Fulfilled:
    """One SubscriptionFulfilled event, of one of ours."""

    log: Log
    delegation: Delegation
    subscription_id: int
    node: str

    @property
    def key(self) -> tuple[str, int]:
        """Name the event; a reorganised block has another hash."""
        return self.log.block_hash, self.log.index


class DeliveryReader:
    """Reads answers, each once: what lies in a block does not change."""

    def __init__(self, web3: Web3 | Asks) -> None:
        self._web3 = web3
        self._kept: dict[tuple[str, int], Delivery] = {}
        self._widest = WIDEST

    async def fetch(
        self, created: Mapping[Delegation, int], deployment: Deployment, head: Head
    ) -> dict[int, list[Delivery]]:
        """Fetch all answers up to a block, by the coordinator's id. Raises as `gateway.chain.rpc.request`."""
        if not created:
            return {}
        events = await self._fetch_events(created, deployment, head)
        new = [event for event in events if event.key not in self._kept]
        if len(self._kept) + len(new) > _MAX_KEPT:
            self._kept.clear()
            new = events
        lazy = [event for event in new if event.delegation.subscription.lazy]
        eager = [event for event in new if not event.delegation.subscription.lazy]
        self._kept |= await self._read_inbox(lazy, deployment) if lazy else {}
        self._kept |= await self._read_transactions(eager, deployment) if eager else {}
        found: dict[int, list[Delivery]] = {}
        for event in events:
            found.setdefault(event.subscription_id, []).append(self._kept[event.key])
        return found

    async def _fetch_events(
        self, created: Mapping[Delegation, int], deployment: Deployment, head: Head
    ) -> list[_Fulfilled]:
        by_id = {number: delegation for delegation, number in created.items()}
        topics = [
            [contracts.get_topic("SubscriptionFulfilled")],
            [number.to_bytes(32, "big") for number in by_id],
        ]
        first = min(delegation.from_block for delegation in created)
        logs = await self._fetch_logs(deployment.coordinator, topics, first, head.number)
        events = []
        for log in logs:
            if len(log.topics) != 3 or int.from_bytes(log.topics[1], "big") not in by_id:
                raise Misbehaved("the RPC sent an event that was not asked for")
            number = int.from_bytes(log.topics[1], "big")
            node = to_checksum("0x" + log.topics[2][-20:].hex())
            events.append(_Fulfilled(log, by_id[number], number, node))
        return events

    async def _read_transactions(
        self, events: Sequence[_Fulfilled], deployment: Deployment
    ) -> dict[tuple[str, int], Delivery]:
        """Read eager answers out of the calls that delivered them; only the owner contract keeps them."""
        hashes = list(dict.fromkeys(event.log.transaction for event in events))
        sent = dict(zip(hashes, await self._fetch_transactions(hashes), strict=True))
        calls = {event.key: _parse_call(sent[event.log.transaction], event, deployment) for event in events}
        unread = [event for event in events if calls[event.key] is None]
        times = await self._fetch_times(unread)
        deliveries: dict[tuple[str, int], Delivery] = {}
        for event in events:
            call = calls[event.key]
            if call is None:
                interval = get_interval(event.delegation, times[event.log.block_number]) or 1
                deliveries[event.key] = _make_delivery(event, interval, Form.UNREADABLE, None)
            else:
                interval, input_, output, proof = call
                deliveries[event.key] = _make_delivery(event, interval, *parse_answer(input_, output, proof))
        return deliveries

    async def _read_inbox(
        self, events: Sequence[_Fulfilled], deployment: Deployment
    ) -> dict[tuple[str, int], Delivery]:
        """Read lazy answers from the inbox, where the delivering transaction left them."""
        if deployment.inbox is None:
            times = await self._fetch_times(events)
            return {
                event.key: _make_delivery(
                    event,
                    get_interval(event.delegation, times[event.log.block_number]) or 1,
                    Form.UNREADABLE,
                    None,
                )
                for event in events
            }
        notes = await self._fetch_notes(events, deployment.inbox)
        calls = [
            contracts.encode_call(
                "read", note.topics[1], _get_address(note), int.from_bytes(note.data, "big")
            )
            for note in notes
        ]
        results = await rpc.fetch_calls(self._web3, [(deployment.inbox, call) for call in calls])
        items: dict[tuple[str, int, str], tuple[Any, ...]] = {}
        for note, result in zip(notes, results, strict=True):
            item = contracts.parse_result("read", result)[0]
            items[note.transaction, item[1], _get_address(note)] = item
        deliveries = {}
        for event in events:
            key = event.log.transaction, event.subscription_id, event.node
            if key not in items:
                # The log of one contract is there and the other's is not: its index lags.
                raise Unavailable(
                    f"the inbox's event of transaction {event.log.transaction} is not there yet"
                )
            _, _, interval, input_, output, proof = items[key]
            deliveries[event.key] = _make_delivery(event, interval, *parse_answer(input_, output, proof))
        return deliveries

    async def _fetch_notes(self, events: Sequence[_Fulfilled], inbox: str) -> list[Log]:
        containers = {encode_container_id(event.delegation.subscription.containers) for event in events}
        topics = [
            [contracts.get_topic("NewInboxItem")],
            [bytes.fromhex(container[2:]) for container in sorted(containers)],
            sorted({event.log.topics[2] for event in events}),
        ]
        numbers = [event.log.block_number for event in events]
        notes = await self._fetch_logs(inbox, topics, min(numbers), max(numbers))
        wanted = {event.log.transaction for event in events}
        return [note for note in notes if note.transaction in wanted]

    async def _fetch_logs(
        self, address: str, topics: Sequence[Sequence[bytes] | None], first: int, last: int
    ) -> list[Log]:
        """Fetch events in ranges of as many blocks as the RPC allows, which is learnt."""
        while True:
            asked = [
                rpc.fetch_logs(
                    self._web3, address, topics, first=start, last=min(last, start + self._widest - 1)
                )
                for start in range(first, last + 1, self._widest)
            ]
            found = await asyncio.gather(*asked, return_exceptions=True)
            width = min(self._widest, last - first + 1)
            if width > NARROWEST and any(is_too_wide(some) for some in found):
                self._widest = max(NARROWEST, width // 2)
                continue
            for some in found:
                if isinstance(some, BaseException):
                    raise some
            return [log for some in found if isinstance(some, list) for log in some]

    async def _fetch_transactions(self, hashes: Sequence[str]) -> list[Any]:
        questions = [("eth_getTransactionByHash", [transaction]) for transaction in hashes]
        sent = await rpc.request_many(self._web3, questions)
        if None in sent:
            raise Unavailable("a transaction of the log is not there yet")
        return sent

    async def _fetch_times(self, events: Sequence[_Fulfilled]) -> dict[int, int]:
        numbers = list(dict.fromkeys(event.log.block_number for event in events))
        heads = await rpc.fetch_blocks(self._web3, numbers)
        return {head.number: head.timestamp for head in heads}


def _make_delivery(event: _Fulfilled, interval: int, form: Form, output: Any) -> Delivery:
    log = event.log
    return Delivery(interval, event.node, log.transaction, log.block_number, form, output)


def _get_address(note: Log) -> str:
    return to_checksum("0x" + note.topics[2][-20:].hex())


def _parse_call(
    transaction: Any, event: _Fulfilled, deployment: Deployment
) -> tuple[int, bytes, bytes, bytes] | None:
    """Return interval, input, output and proof; None if the node went by way of another contract."""
    try:
        to, data = str(transaction["to"]), bytes.fromhex(str(transaction["input"]).removeprefix("0x"))
    except (KeyError, TypeError, ValueError) as error:
        raise Misbehaved(f"transaction {event.log.transaction} can't be read") from error
    parsed = contracts.parse_arguments(data) if to.lower() == deployment.coordinator.lower() else None
    if parsed is None or parsed[0] not in ("deliverCompute", "deliverComputeDelegatee"):
        return None
    interval, input_, output, proof, _ = parsed[1][-5:]
    return interval, input_, output, proof
