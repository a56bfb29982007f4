"""Publishing a task: checked, uploaded and signed before anything is sent; the same bytes are sent always."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.adapter import Landed, NotLanded, Recovery, Unknown
from gateway.chain.gather import Shared
from gateway.chain.prepared import Call, Offer, Prepared
from gateway.chain.retiring import retire
from gateway.chain.whereabouts import Whereabouts
from gateway.errors import InvalidInput
from gateway.files import has_files, parse_file
from gateway.task import Envelope, Handle, Quote, Task
from gateway.types import JSON, AttemptId, Money
from gateway_ogpu import wire
from gateway_ogpu.config import ASSET, OgpuTarget
from gateway_ogpu.connection import Connection
from gateway_ogpu.contracts import encode_call
from gateway_ogpu.errors import (
    ExpiryRefused,
    NotAllowed,
    OgpuRefused,
    PaymentTooLow,
    SourceInactive,
    SourceUnknown,
    VaultTooLow,
)
from gateway_ogpu.reading import Admission, Source, fetch_admission
from gateway_ogpu.sending import Sending
from gateway_ogpu.wire import DeliveryMethod, SourceStatus

if TYPE_CHECKING:
    from gateway.chain.heads import Block
    from gateway.content import ContentStore, Stored

KIND = "publish"
_WHAT = "publishing the task"
_MOST_DRAFTS = 1000
_FRESH_SECONDS = 2.0  # so old may an estimate be
_CONFIRM_GAS = 300_000  # more than confirmResponse takes
_LIKELY_SECONDS = 600.0  # so long a source is expected to be as it was; it is looked at all the same
_MARGIN_SECONDS = 5  # what a block may be older than its successor, before an expiry is too long


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a task is published under; `head` is the newest block as of then."""

    source: Source
    payment: int
    expires_in_seconds: int
    head: Block


class _Uploaded(NamedTuple):
    """A config that others can read now, when its task will expire, and what to offer for publishing it."""

    stored: Stored
    expires_at: int
    offer: Offer


class Publishing:
    """The part of the seam before a task is on the chain."""

    def __init__(self, connection: Connection, sending: Sending) -> None:
        self._connection = connection
        self._sending = sending
        self._drafts: dict[str, Envelope] = {}  # prepared here, and not submitted yet
        self._looks: dict[str, Shared[tuple[Block, Admission | None]]] = {}
        self._seen: dict[str, tuple[float, Block, Admission | None]] = {}  # the last looks, and when
        self._likely_link = f"{connection.network.content_gateways[0]}/ipfs/Qm{'1' * 44}"

    async def prepare(self, task: Task, words: OgpuTarget, attempt_id: AttemptId) -> Envelope:
        """Check, upload and sign. The same attempt again, before it is submitted, is the same envelope."""
        draft = self._drafts.get(attempt_id)
        if draft is not None and self._sending.is_unsent(parse_prepared(draft.payload)):
            return draft
        wire.encode_config(words.function, _require_object(task.input), words.extra)
        with self._sending.muster.expect(attempt_id):
            terms, (stored, expires_at, offer) = await self._check_and_upload(task, words)
            call = self._make_call(terms, stored.uri, expires_at)
            prepared = await self._sending.prepare(call, owner=attempt_id, what=_WHAT, offer=offer)
        envelope = Envelope(
            attempt_id=attempt_id,
            backend=self._connection.name,
            prepared_at=self._connection.clock.now(),
            payload={
                "kind": KIND,
                "transaction": prepared.encode(),
                "source": terms.source.address,
                "config": stored.uri,
                "cid": str(stored.cid),
                "payment": str(terms.payment),
                "expires_at": expires_at,
                "accept": task.accept,
            },
        )
        self._drafts[attempt_id] = envelope
        while len(self._drafts) > _MOST_DRAFTS:
            del self._drafts[next(iter(self._drafts))]
        return envelope

    async def submit(self, envelope: Envelope) -> Handle:
        """Broadcast the stored bytes. Raises InDoubt where nobody knows; then `recover` tells."""
        self._drafts.pop(envelope.attempt_id, None)
        await self._sending.broadcast(parse_prepared(envelope.payload), owner=envelope.attempt_id)
        return make_handle(envelope)

    async def recover(self, envelope: Envelope) -> Recovery:
        """Look the transaction up by its hash."""
        prepared = parse_prepared(envelope.payload)
        look = await self._connection.transactions.look_up(prepared)
        if look.landed:
            return Landed(make_handle(envelope))
        if look.where is Whereabouts.UNKNOWN:
            return Unknown(look.reason)
        if look.where is Whereabouts.DEAD:
            return NotLanded(final=True)
        # After its expiry the bytes can still land, but no task can come of them any more.
        expires_at = int(envelope.payload["expires_at"])
        is_over = await self._connection.came_too_late(prepared, expires_at)
        if is_over:
            await retire(self._connection.transactions, prepared)
        return NotLanded(final=is_over, lingers=not is_over)

    async def quote(self, task: Task, words: OgpuTarget) -> Quote:
        """Tell payment and gas, at the fees of the moment. Raises as `prepare`, but uploads nothing."""
        connection = self._connection
        terms = await self._check(task, words)
        offer = await self._estimate(terms, self._likely_link, self._choose_expiry(terms))
        gas = offer.gas
        if terms.source.delivery is DeliveryMethod.MANUAL_CONFIRMATION:
            gas += _CONFIRM_GAS
        most = gas * offer.fees.max_fee
        likely = most // max(1, connection.transactions.policy.base_fee_factor)
        return Quote(
            expected=Money(terms.payment + likely, ASSET),
            upper=Money(terms.payment + most, ASSET),
            confidence="range",
            quoted_at=connection.clock.now(),
            detail={"payment": str(terms.payment), "gas": gas, "max_fee": str(offer.fees.max_fee)},
        )

    async def _check_and_upload(self, task: Task, words: OgpuTarget) -> tuple[_Terms, _Uploaded]:
        """Check and upload: at the same time, where a look a moment ago lets expect that nothing is refused.

        Raises as `_check` if that does, whatever became of the upload.
        """
        checking = asyncio.create_task(self._check(task, words))
        likely = self._guess(task, words)
        if likely is None:
            await asyncio.wait([checking])
            likely = checking.result()
        uploading = asyncio.create_task(self._upload(task, words, likely))
        try:
            terms = await checking
            if (terms.source, terms.payment) != (likely.source, likely.payment):
                return terms, await self._upload(task, words, terms)
            return terms, await uploading
        finally:
            checking.cancel()
            uploading.cancel()
            await asyncio.gather(checking, uploading, return_exceptions=True)

    def _guess(self, task: Task, words: OgpuTarget) -> _Terms | None:
        """Return what `_check` will, if all is as it was when the source was looked at a moment ago."""
        seen_at, head, admission = self._seen.get(words.source, (0.0, None, None))
        if head is None or self._connection.clock.monotonic() - seen_at > _LIKELY_SECONDS:
            return None
        try:
            return _judge(task, words, head, admission, self._connection.signer.address)
        except OgpuRefused:
            return None

    async def _check(self, task: Task, words: OgpuTarget) -> _Terms:
        """Read the state that decides, so that each refusal has its own error. Raises OgpuRefused.

        A replica that is behind does not know yet what was published or deposited a moment ago: a refusal
        holds if it is one as of the newest block that is known, too.
        """
        signer = (await self._connection.unlock()).address
        look = self._looks.setdefault(words.source, Shared(lambda: self._look(words.source, signer)))
        head, admission = await look.ask()
        try:
            terms = _judge(task, words, head, admission, signer)
        except OgpuRefused:
            head, admission = await self._look(words.source, signer, head.number)
            terms = _judge(task, words, head, admission, signer)
        self._seen[words.source] = self._connection.clock.monotonic(), head, admission
        return terms

    async def _look(
        self, source: str, signer: str, block: int | None = None
    ) -> tuple[Block, Admission | None]:
        """Look at a source and its client in one request, once for all who ask at the same moment."""
        connection, (*_, seen) = self._connection, self._seen.get(source, (None,))
        head, admission = await asyncio.gather(
            connection.heads.fetch(),
            fetch_admission(
                connection.rpc,
                connection.contracts,
                source,
                signer,
                likely_client=signer if seen is None else seen.source.client,
                block=block,
            ),
        )
        return head, admission

    async def _upload(self, task: Task, words: OgpuTarget, terms: _Terms) -> _Uploaded:
        """Upload, and find out at the same time what to offer; return both, and the expiry.

        Gas depends on the link's length alone, and links of one service are equally long. If this one is not,
        or if the upload took its time, the question is put again.
        """
        connection = self._connection
        data = await _upload_files(connection.content, task.input)
        config = wire.encode_config(words.function, data, words.extra)
        began, link, expires_at = connection.clock.monotonic(), self._likely_link, self._choose_expiry(terms)
        estimating = asyncio.create_task(self._estimate(terms, link, expires_at))
        try:
            stored = await connection.content.put(
                config, filename=wire.CONFIG_NAME, content_type=wire.JSON_TYPE
            )
            offer = await estimating
        finally:
            estimating.cancel()
            await asyncio.gather(estimating, return_exceptions=True)
        if len(stored.uri) != len(link):
            self._likely_link = stored.uri
        if len(stored.uri) != len(link) or connection.clock.monotonic() - began > _FRESH_SECONDS:
            expires_at = self._choose_expiry(replace(terms, head=await connection.heads.fetch()))
            offer = await self._estimate(terms, stored.uri, expires_at)
        return _Uploaded(stored, expires_at, offer)

    async def _estimate(self, terms: _Terms, link: str, expires_at: int) -> Offer:
        """Ask what to offer, once for all tasks of a moment that differ in nothing but their config."""
        like = (terms.source.address, terms.payment, terms.expires_in_seconds, len(link))
        call = self._make_call(terms, link, expires_at)
        return await self._sending.estimate(call, what=_WHAT, like=like)

    def _choose_expiry(self, terms: _Terms) -> int:
        """Return the expiry in seconds since the epoch; a chain without traffic is behind the clock."""
        now = int(self._connection.clock.now().timestamp())
        return max(terms.head.timestamp, now) + terms.expires_in_seconds

    def _make_call(self, terms: _Terms, link: str, expires_at: int) -> Call:
        data = encode_call("publishTask", (terms.source.address, link, expires_at, terms.payment))
        return Call(self._connection.contracts.controller, data)


def _judge(task: Task, words: OgpuTarget, head: Block, admission: Admission | None, signer: str) -> _Terms:
    """Say under which terms a task can be published as things are. Raises OgpuRefused."""
    if admission is None:
        raise SourceUnknown(f"the Nexus has no source {words.source}")
    source = admission.source
    if source.status is not SourceStatus.ACTIVE:
        raise SourceInactive(f"the source {source.address} is inactive")
    payment = source.min_payment if words.payment == "cheapest" else words.payment.amount
    if payment < source.min_payment:
        least = Money(source.min_payment, ASSET)
        raise PaymentTooLow(f"the source takes {least} at least, and the payment is {Money(payment, ASSET)}")
    seconds = words.expires_in.total_seconds()
    if task.limits.deadline is not None:
        seconds = min(seconds, task.limits.deadline.total_seconds())
    longest = source.max_expiry_seconds - _MARGIN_SECONDS
    if not 1 <= seconds <= longest:
        raise ExpiryRefused(f"a task may expire in 1 to {longest} s here, not in {seconds:g} s")
    if not admission.is_allowed:
        raise NotAllowed(f"{source.address} is {source.client}'s, and {signer} is no agent of theirs")
    if admission.balance < payment:
        has, wants = Money(admission.balance, ASSET), Money(payment, ASSET)
        raise VaultTooLow(f"{source.client} has {has} in the vault, and the task takes {wants}")
    return _Terms(source, payment, int(seconds), head)


def parse_prepared(payload: Mapping[str, JSON]) -> Prepared:
    """Read the transaction of an envelope or a handle."""
    return Prepared.parse(payload["transaction"])


def make_handle(envelope: Envelope) -> Handle:
    """Make a publication's handle: the hash of its transaction, which is known before anybody else knows it.

    The task's address is known once the transaction is in a block, and may change in a reorg.
    """
    kept = ("transaction", "source", "payment", "expires_at", "accept")
    detail: dict[str, Any] = {name: envelope.payload[name] for name in kept}
    return Handle(
        envelope.backend,
        str(envelope.payload["transaction"]["hash"]),
        {**detail, "attempt_id": envelope.attempt_id},
    )


def _require_object(data: JSON) -> JSON:
    if not isinstance(data, dict):
        raise InvalidInput(f"OGPU's functions take a JSON object, not {type(data).__name__}")
    return data


async def _upload_files(content: ContentStore, value: JSON) -> JSON:
    """Return the input with a link in the place of each file."""
    if not has_files(value):
        return value
    file = parse_file(value)
    if file is not None:
        data, kind = await asyncio.to_thread(file.load)
        return (await content.put(data, filename=file.name, content_type=kind)).uri
    if isinstance(value, dict):
        return {name: await _upload_files(content, item) for name, item in value.items()}
    return [await _upload_files(content, item) for item in value]
