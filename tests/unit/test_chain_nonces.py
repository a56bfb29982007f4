"""No nonce is given out twice, and none is given back that may be used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.chain.fees import Fees
from gateway.chain.nonces import (
    LaneKey,
    NonceInUse,
    NonceLane,
    NonceRow,
    NonceState,
    Pages,
    Signed,
)
from gateway.chain.prepared import Prepared
from gateway.errors import Misbehaved

pytestmark = pytest.mark.anyio

KEY = LaneKey(1071, "0x90F79bf6EB2c4f870365E785982E1f101E93b906")


def make_prepared(nonce: int, text: str = "") -> Prepared:
    return Prepared(KEY.chain_id, KEY.address, nonce, "0x00", f"0x{nonce}{text}", 21_000, Fees(1))


class PagesMachine(RuleBasedStateMachine):
    """What is written down against a plain account of who holds what."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages()
        self.held: set[int] = set()
        self.chain = 0

    @rule()
    def allocate(self) -> None:
        nonce = self.pages.allocate("me", self.chain)
        assert nonce not in self.held
        assert nonce >= self.chain
        # The lowest that nobody holds: no gap is left.
        assert all(lower in self.held for lower in range(self.chain, nonce))
        self.held.add(nonce)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.held:
            nonce = data.draw(st.sampled_from(sorted(self.held)))
            self.pages.give_back(nonce)
            self.held.discard(nonce)

    @rule(by=st.integers(min_value=0, max_value=3))
    def chain_moves(self, by: int) -> None:
        lowest_free = next(n for n in range(self.chain, self.chain + 1000) if n not in self.held)
        self.chain = min(self.chain + by, lowest_free)
        self.pages.settle(self.chain)
        self.held = {nonce for nonce in self.held if nonce >= self.chain}

    @rule(nonce=st.integers(min_value=0, max_value=30))
    def adopt(self, nonce: int) -> None:
        """A nonce that was never given out turns up, from before a restart."""
        everything = {*self.held, *self.pages.free}
        if nonce == max(everything, default=self.chain - 1) + 1:
            self.pages.put([NonceRow(nonce, "old")])
            self.held.add(nonce)

    @invariant()
    def rows_are_what_is_held(self) -> None:
        assert [row.nonce for row in self.pages.list_rows()] == sorted(self.held)
        free = self.pages.free
        assert not free & self.held
        assert all(nonce < max(self.held, default=self.chain) for nonce in free)


TestPages = PagesMachine.TestCase
TestPages.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


class Counts:
    """An RPC that says what the account's nonces are, and which hashes it knows."""

    def __init__(self, latest: Any = 0, pending: Any = 0) -> None:
        self.latest, self.pending = latest, pending
        self.known: set[str] = set()
        self.asked = 0

    async def ask(self, questions: Any) -> list[Any]:
        self.asked += 1
        return [self.answer(method, params) for method, params in questions]

    def answer(self, method: str, params: Any) -> Any:
        if method == "eth_getTransactionByHash":
            return {"hash": params[0]} if params[0] in self.known else None
        number = self.latest if params[1] == "latest" else self.pending
        return hex(number) if isinstance(number, int) else number


async def allocate(lane: NonceLane, owner: str = "me") -> int:
    [nonce] = await lane.allocate([owner])
    return nonce


async def test_the_chain_says_where_to_begin_and_is_asked_once() -> None:
    rpc = Counts(5, 7)
    lane = NonceLane(rpc, KEY)
    assert await asyncio.gather(*(allocate(lane) for _ in range(4))) == [7, 8, 9, 10]
    assert rpc.asked <= 4


async def test_a_replica_that_lags_changes_nothing_and_another_program_does() -> None:
    rpc = Counts(5, 7)
    lane = NonceLane(rpc, KEY)
    assert await allocate(lane) == 7
    rpc.latest = rpc.pending = 3
    lane.suspect()
    await lane.refresh()
    assert await allocate(lane) == 8
    rpc.pending = 20
    await lane.refresh()  # too soon: the chain's last word still counts
    assert await allocate(lane) == 9
    lane.suspect()
    await lane.refresh()
    assert await allocate(lane) == 20


async def test_what_may_be_sent_is_never_given_back() -> None:
    lane = NonceLane(Counts(), KEY)
    prepared = make_prepared(await allocate(lane))
    assert await lane.write_signed([Signed(prepared, "me", "me")]) == [True]
    [before] = await lane.mark_sent([prepared])
    assert before is not None
    assert before.state is NonceState.SIGNED
    for _ in range(2):
        with pytest.raises(NonceInUse):
            await lane.give_back(prepared.nonce)
        await lane.write_signed([Signed(make_prepared(prepared.nonce, "replaced"))])
    [row] = await lane.get_rows()
    assert (row.owner, row.state) == ("me", NonceState.SENT)
    [kept] = await lane.mark_sent([prepared])  # what replaced it has the nonce now
    assert kept == row
    await lane.give_back(prepared.nonce, refused=True)
    assert await allocate(lane, "you") == prepared.nonce


async def test_gaps() -> None:
    rpc = Counts()
    lane = NonceLane(rpc, KEY)
    for _ in range(6):
        await allocate(lane)
    sent = [make_prepared(nonce) for nonce in (0, 2, 3, 5)]
    for prepared in sent:
        assert await lane.write_signed([Signed(prepared, "me", "me")]) == [True]
    await lane.mark_sent(sent)
    await lane.give_back(1)
    assert not await lane.take(4, "gap")  # somebody has it
    rpc.latest, rpc.pending = 1, 1
    rpc.known = {"0x2", "0x5"}  # queued behind the gap
    gaps = await lane.find_gaps()
    assert (gaps.missing, gaps.unused, bool(gaps)) == ((sent[2],), (1,), True)
    assert await lane.take(1, "gap")
    assert not await lane.take(1, "gap")
    rpc.latest = rpc.pending = 6
    assert not await lane.find_gaps()
    assert await lane.get_rows() == []


@pytest.mark.parametrize("count", [None, "none", {}])
async def test_no_nonce(count: Any) -> None:
    with pytest.raises(Misbehaved):
        await allocate(NonceLane(Counts(count, 0), KEY))
