"""A chain in this process: a pool of transactions, blocks made of them, and blocks taken back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from gateway.devnet.chain.accounts import ACCOUNTS, FUNDS_WEI
from gateway.devnet.chain.blocks import Block, Mined
from gateway.devnet.chain.ledger import GAS_LIMIT, Ledger
from gateway.devnet.chain.transactions import (
    BadTransaction,
    Transaction,
    count_intrinsic_gas,
    parse_transaction,
)

BASE_FEE_WEI = 10**9
_BUMP_PERCENT = 110  # of both prices, for another transaction of the same nonce


class Blockchain:
    """Blocks from 0 on. Its words for refusals are those of geth.

    A reorganisation runs all older transactions again, so it costs as much time as they did.
    """

    def __init__(self, chain_id: int, *, automine: bool, timestamp: int | None = None) -> None:
        self.chain_id = chain_id
        self.automine = automine
        self.base_fee = BASE_FEE_WEI
        self.pool: dict[str, Transaction] = {}  # by hash, in the order of arrival
        self.places: dict[str, tuple[Block, int]] = {}  # by transaction: its block, and where in it
        self._given: list[tuple[int, str, int]] = []  # balances set by hand: from which block on
        self._ahead_seconds = 0 if timestamp is None else timestamp - int(time.time())
        self._next_timestamp: int | None = timestamp
        self._salt = 0
        self.ledger = _make_ledger(self.chain_id)
        self.blocks = [Block(0, self._take_timestamp(0), "0x" + "00" * 32, self.base_fee)]
        self.head.seal()
        self.ledger.enter_block(1, self.head.timestamp)

    @property
    def head(self) -> Block:
        """The newest block."""
        return self.blocks[-1]

    def add(self, raw: bytes) -> str:
        """Take a signed transaction into the pool; return its hash. Raises BadTransaction."""
        transaction = parse_transaction(raw)
        if transaction.hash in self.pool:
            raise BadTransaction("already known")
        self._check(transaction)
        rival = _find_pooled(self.pool.values(), transaction.sender, transaction.nonce)
        if rival is not None:
            if not _outbids(transaction, rival):
                raise BadTransaction("replacement transaction underpriced")
            del self.pool[rival.hash]
        self.pool[transaction.hash] = transaction
        if self.automine:
            self.mine()
        return transaction.hash

    def count_transactions(self, address: str, *, pending: bool) -> int:
        """Return an account's next nonce; `pending` counts those in the pool that follow without a gap."""
        nonce = self.ledger.get_nonce(address)
        while pending and _find_pooled(self.pool.values(), address, nonce) is not None:
            nonce += 1
        return nonce

    def mine(self) -> Block:
        """Make a block of what is in the pool, as far as it goes in."""
        block = Block(
            self.head.number + 1,
            self._take_timestamp(self.head.timestamp),
            self.head.hash,
            self.base_fee,
            self._salt,
        )
        self.ledger.enter_block(block.number, block.timestamp)
        for transaction in self._take_ready():
            if block.gas_used + transaction.gas > GAS_LIMIT:
                continue
            if transaction.nonce != self.ledger.get_nonce(transaction.sender):
                continue  # the one before it did not go in
            del self.pool[transaction.hash]
            self._put(block, transaction)
        self._close(block)
        return block

    def reorganize(self, depth: int) -> None:
        """Replace the newest `depth` blocks by empty ones; what was in them is in no pool either."""
        kept = self.blocks[: max(1, len(self.blocks) - depth)]
        gone = self.blocks[len(kept) :]
        self._salt += 1
        self._replay(kept)
        for old in gone:
            block = Block(old.number, old.timestamp, self.head.hash, self.base_fee, self._salt)
            self.ledger.enter_block(block.number, block.timestamp)
            self._close(block)

    def set_balance(self, address: str, wei: int) -> None:
        """Give an account exactly so much, from the next block on."""
        self._given.append((self.head.number, address, wei))
        self.ledger.set_balance(address, wei)

    def skip_to(self, timestamp: int) -> None:
        """Let the next block have that time; the clock goes on from there."""
        self._next_timestamp = timestamp
        self._ahead_seconds = timestamp - int(time.time())

    def skip(self, seconds: int) -> None:
        """Put the clock forward."""
        self._ahead_seconds += seconds

    def _check(self, transaction: Transaction) -> None:
        if transaction.chain_id not in (None, self.chain_id):
            raise BadTransaction(
                f"invalid chain id for signer: have {transaction.chain_id} want {self.chain_id}"
            )
        nonce = self.ledger.get_nonce(transaction.sender)
        if transaction.nonce < nonce:
            raise BadTransaction(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas > GAS_LIMIT:
            raise BadTransaction("exceeds block gas limit")
        if transaction.tip > transaction.max_fee:
            raise BadTransaction("max priority fee per gas higher than max fee per gas")
        needed = count_intrinsic_gas(transaction.data, creates=transaction.to is None)
        if transaction.gas < needed:
            raise BadTransaction(f"intrinsic gas too low: gas {transaction.gas}, minimum needed {needed}")
        have = self.ledger.get_balance(transaction.sender)
        want = transaction.gas * transaction.max_fee + transaction.value
        if have < want:
            raise BadTransaction(
                f"insufficient funds for gas * price + value: balance {have}, tx cost {want}"
            )

    def _take_ready(self) -> Iterator[Transaction]:
        """Go through the pool in the order of arrival, but of nonces within a sender."""
        waiting: dict[str, list[Transaction]] = {}
        for each in self.pool.values():
            waiting.setdefault(each.sender, []).append(each)
        for mine in waiting.values():
            mine.sort(key=lambda each: -each.nonce)
        for sender in [each.sender for each in self.pool.values()]:
            transaction = waiting[sender].pop()
            if transaction.max_fee >= self.base_fee:
                yield transaction

    def _put(self, block: Block, transaction: Transaction) -> None:
        price = transaction.get_price(block.base_fee)
        first_log = block.mined[-1].first_log + len(block.mined[-1].outcome.logs) if block.mined else 0
        outcome = self.ledger.apply(transaction, price)
        total = block.gas_used + outcome.gas_used
        block.mined.append(Mined(transaction, outcome, price, total, first_log))

    def _close(self, block: Block) -> None:
        block.seal()
        self.blocks.append(block)
        for index, mined in enumerate(block.mined):
            self.places[mined.transaction.hash] = (block, index)
        self.ledger.enter_block(block.number + 1, block.timestamp)

    def _replay(self, blocks: list[Block]) -> None:
        self.ledger = _make_ledger(self.chain_id)
        self.blocks = []
        self.places = {}
        for block in blocks:
            self.ledger.enter_block(block.number, block.timestamp)
            for mined in block.mined:
                self.ledger.apply(mined.transaction, mined.price)
            self.blocks.append(block)
            self.places |= {m.transaction.hash: (block, index) for index, m in enumerate(block.mined)}
            for number, address, wei in self._given:
                if number == block.number:
                    self.ledger.set_balance(address, wei)

    def _take_timestamp(self, parent: int) -> int:
        """Say when the next block is: by the clock, and never before its parent."""
        chosen, self._next_timestamp = self._next_timestamp, None
        return max(parent, int(time.time()) + self._ahead_seconds) if chosen is None else chosen


def _make_ledger(chain_id: int) -> Ledger:
    ledger = Ledger(chain_id)
    for account in ACCOUNTS:
        ledger.set_balance(account.address, FUNDS_WEI)
    return ledger


def _outbids(new: Transaction, old: Transaction) -> bool:
    enough = all(
        mine * 100 >= theirs * _BUMP_PERCENT
        for mine, theirs in ((new.tip, old.tip), (new.max_fee, old.max_fee))
    )
    return enough and new.hash != old.hash


def _find_pooled(pool: Iterable[Transaction], sender: str, nonce: int) -> Transaction | None:
    for each in pool:
        if each.nonce == nonce and each.sender.lower() == sender.lower():
            return each
    return None
