"""One RPC URL: its health, whether it is on the right chain, and how large a batch it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.chain.rpc import (
    BATCH_SIZE,
    BatchRefused,
    Outcome,
    Question,
    RpcRefused,
    ask_batch,
    ask_one,
    fetch_chain_id,
    parse_chain_id,
)
from gateway.clock import Clock
from gateway.errors import BackendError, InDoubt, Misbehaved, Rejected, Unavailable

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3

_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.5, 60.0
_log = logging.getLogger(__name__)
_AT_ONCE = 16  # single requests, where there are no batches


class WrongChain(Rejected):
    """The RPC is on another chain than the configuration says."""


class InternalError(Unavailable):
    """The RPC met trouble of its own in answering; another one, or a later moment, may have the answer."""


class Endpoint:
    """Asks one RPC, and remembers how that went. It repeats nothing but what a refused batch did not do.

    Args:
        name: for messages; never the URL, which may carry a key.
        web3: of `make_web3`.
        chain_id: the chain that it must be on; None: whichever.
    """

    def __init__(self, name: str, web3: Web3, *, chain_id: int | None, clock: Clock) -> None:
        self.name = name
        self.web3 = web3
        self.batch_size = BATCH_SIZE
        self.rests_until = 0.0  # on the monotonic clock
        self.chain_id = chain_id
        self._clock = clock
        self._failures = 0
        self._is_checked = False
        self._checking = asyncio.Lock()

    async def ask(self, questions: Sequence[Question], *, lands: bool = False) -> list[Outcome]:
        """Return what became of each question; errors are values, and none is raised.

        Args:
            questions: any number of them.
            lands: they have an effect: a lost answer is InDoubt, and single ones are asked one after another.
        """
        outcomes: list[Outcome] | None = None
        try:
            if self._can_check_along(questions, lands):
                outcomes = await self._ask_and_check(questions)
            if outcomes is None:
                await self._check_chain()
                outcomes = await self._ask_all(questions, lands=lands)
        except BackendError as error:
            self._note(error)
            # Nothing was asked yet, or nothing is believed; and nothing landed.
            mine = error if isinstance(error, Rejected | Unavailable) else Unavailable(error.message)
            return [mine] * len(questions)
        self._note(next((outcome for outcome in outcomes if is_failure(outcome)), None))
        return outcomes

    async def _ask_all(self, questions: Sequence[Question], *, lands: bool) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while len(outcomes) < len(questions):
            chunk = questions[len(outcomes) :]
            if self.batch_size == 1 or len(chunk) == 1:
                outcomes += await self._ask_singly(chunk, lands=lands)
                continue
            chunk = chunk[: self.batch_size]
            try:
                outcomes += await ask_batch(self.web3, chunk, lands=lands)
            except BatchRefused as error:
                self._learn(error, len(chunk))
            except BackendError as error:
                outcomes += [error] * len(chunk)
        return outcomes

    async def _ask_singly(self, questions: Sequence[Question], *, lands: bool) -> list[Outcome]:
        limit = asyncio.Semaphore(1 if lands else _AT_ONCE)

        async def ask(question: Question) -> Outcome:
            async with limit:
                try:
                    return await ask_one(self.web3, *question, lands=lands)
                except BackendError as error:
                    return error

        return await asyncio.gather(*(ask(question) for question in questions))

    def _can_check_along(self, questions: Sequence[Question], lands: bool) -> bool:  # noqa: FBT001
        """Say whether the chain's id can be asked in the same request: what reads does no harm elsewhere."""
        needed = not self._is_checked and self.chain_id is not None
        return needed and not lands and len(questions) < self.batch_size

    async def _ask_and_check(self, questions: Sequence[Question]) -> list[Outcome] | None:
        """Ask for the chain's id together with the questions; None if the RPC takes no batch.

        Raises WrongChain, or as `request`.
        """
        try:
            found, *outcomes = await ask_batch(self.web3, [("eth_chainId", []), *questions])
        except BatchRefused as error:
            self._learn(error, len(questions) + 1)
            return None
        if isinstance(found, BackendError):
            raise found
        self._believe(parse_chain_id(found))
        return outcomes

    async def _check_chain(self) -> None:
        """Ask for the chain's id at the first use, and again after each failure: URLs are moved.

        Raises WrongChain, or as `request`.
        """
        async with self._checking:
            if self._is_checked or self.chain_id is None:
                return
            provider = self.web3.provider
            provider.cache_allowed_requests = False
            try:
                found = await fetch_chain_id(self.web3)
            finally:
                provider.cache_allowed_requests = True
            self._believe(found)

    def _believe(self, chain_id: int) -> None:
        if chain_id != self.chain_id:
            raise WrongChain(f"{self.name} is on chain {chain_id}, and chain {self.chain_id} is configured")
        self._is_checked = True

    def _learn(self, error: BatchRefused, size: int) -> None:
        """Believe the RPC about batches: half as many if it said that there were too many, else none."""
        self.batch_size = max(1, size // 2) if error.too_large else 1

    def _note(self, failure: BackendError | None) -> None:
        if failure is None:
            self._failures, self.rests_until = 0, 0.0
            return
        _log.warning("%s failed: %s", self.name, failure.message)
        seconds = min(_LONGEST_REST_SECONDS, _FIRST_REST_SECONDS * 2**self._failures)
        if failure.retry_after is not None:
            seconds = failure.retry_after.total_seconds()
        self._failures = min(self._failures + 1, 20)
        self._is_checked = False
        self.rests_until = self._clock.monotonic() + seconds


def is_failure(outcome: Outcome) -> bool:
    """Say whether an outcome is the RPC's own failure (another may do better), not an answer."""
    if isinstance(outcome, WrongChain | Unavailable | InDoubt | Misbehaved):
        return True
    return isinstance(outcome, Rejected) and not isinstance(outcome, RpcRefused)
