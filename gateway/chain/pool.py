"""Several RPCs of one chain, as one: health, failover for reads, and tolerance for replicas that lag."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Self

from gateway.chain.endpoint import Endpoint, InternalError, WrongChain, is_failure
from gateway.chain.gather import Gather
from gateway.chain.rpc import Outcome, Question, Reverted, RpcRefused, fetch_chain_id, make_web3
from gateway.clock import Clock, SystemClock
from gateway.errors import ConfigError, Unavailable

_ROUNDS = 3  # behind one URL there may be many replicas, and the next answer comes from another
_BETWEEN_ROUNDS_SECONDS = 0.25
_INTERNAL = "-32603"  # JSON-RPC's "internal error"
_STALE_WORDS = (
    "block not found",
    "header not found",
    "unknown block",
    "missing trie node",
    "could not find block",
    "resource not found",
)


class Lagging(Unavailable):
    """Every replica that was asked is behind: none knows the block yet."""


class RpcPool:
    """Answers questions from the first RPC that can.

    What is asked in the same moment goes out as one batch, and a question that several ask is asked once.

    Args:
        urls: in order of preference.
        chain_id: the chain that all of them must be on; None: whichever the first is on.
        timeout_seconds: per HTTP request.
        window_seconds: how long a question waits for others to share its request.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        chain_id: int | None = None,
        clock: Clock | None = None,
        timeout_seconds: float = 20.0,
        window_seconds: float = 0.002,
    ) -> None:
        if not urls:
            raise ConfigError("a chain needs at least one RPC URL")
        self._clock = clock or SystemClock()
        self._chain_id = chain_id
        self.endpoints = tuple(
            Endpoint(
                f"RPC {number} of {len(urls)}",
                make_web3(url, timeout_seconds=timeout_seconds),
                chain_id=chain_id,
                clock=self._clock,
            )
            for number, url in enumerate(urls, start=1)
        )
        self._reads = Gather[Question, Outcome](self._ask_now, window_seconds=window_seconds)

    def __repr__(self) -> str:
        return f"<RpcPool of {len(self.endpoints)}, chain {self._chain_id}>"

    async def fetch_chain_id(self) -> int:
        """Return the chain's id: the configured one, or what the first RPC says."""
        if self._chain_id is None:
            self._chain_id = await fetch_chain_id(self.endpoints[0].web3)
            for endpoint in self.endpoints:
                endpoint.chain_id = self._chain_id
        return self._chain_id

    async def ask(self, questions: Sequence[Question]) -> list[Outcome]:
        """Return what became of each question: its result, or the BackendError it met at the last RPC.

        Only for what reads. A question that one RPC could not answer, or not yet ("block not found"), goes to
        the next; Lagging is its outcome if none knows, InternalError if each failed in answering.
        """
        return await self._reads.ask(questions)

    async def send(self, raws: Sequence[str]) -> list[list[Outcome]]:
        """Hand out signed transactions, in their order; return per transaction what each RPC said.

        The next RPC gets the same bytes when one could not be reached or its answer was lost: they can land
        only once. The last outcome of each list is a hash, an RpcRefused, or the failure of the last RPC.
        """
        told: list[list[Outcome]] = [[] for _ in raws]
        unheard = list(range(len(raws)))
        for endpoint in self._list_by_health():
            questions: list[Question] = [("eth_sendRawTransaction", [raws[place]]) for place in unheard]
            for place, outcome in zip(unheard, await endpoint.ask(questions, lands=True), strict=True):
                told[place].append(outcome)
            unheard = [place for place in unheard if is_failure(told[place][-1])]
            if not unheard:
                break
        return told

    async def aclose(self) -> None:
        """End what is being asked, and close the connections."""
        await self._reads.aclose()
        for endpoint in self.endpoints:
            await endpoint.web3.provider.disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask_now(self, questions: list[Question]) -> list[Outcome]:
        """Ask each different question once."""
        keys = [json.dumps(question) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        answers = dict(zip(distinct, await self._ask_everywhere(list(distinct.values())), strict=True))
        return [answers[key] for key in keys]

    async def _ask_everywhere(self, questions: list[Question]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(questions)
        places = list(range(len(questions)))
        for number in range(_ROUNDS):
            if number:
                await self._clock.sleep(_BETWEEN_ROUNDS_SECONDS * number)
            for endpoint in self._list_by_health():
                answers = await endpoint.ask([questions[place] for place in places])
                for place, answer in zip(places, answers, strict=True):
                    outcomes[place] = _choose(outcomes[place], answer)
                places = [place for place in places if is_failure(outcomes[place])]
                if not places:
                    return outcomes
            places = [place for place in places if isinstance(outcomes[place], Lagging)]
            if not places:
                break
        return outcomes

    def _list_by_health(self) -> list[Endpoint]:
        """Return all RPCs: those that are well in the configured order, then the others by their rest's end.

        The resting ones come too: with nobody else to ask, asking is better than not.
        """
        now = self._clock.monotonic()
        return sorted(self.endpoints, key=lambda endpoint: max(endpoint.rests_until, now))


def _choose(before: Outcome, now: Outcome) -> Outcome:
    """Return what to keep of two outcomes of one question, and name a replica that lags or is ill as such."""
    if isinstance(now, RpcRefused) and any(word in now.message.lower() for word in _STALE_WORDS):
        now = Lagging(now.message, code=now.code)
    elif isinstance(now, RpcRefused) and now.code == _INTERNAL and not isinstance(now, Reverted):
        now = InternalError(now.message, code=now.code)
    if isinstance(now, WrongChain) and isinstance(before, Unavailable):
        return before  # the other will come back; this one is on the wrong chain for good
    if isinstance(before, Lagging) and is_failure(now):
        return before
    return now
