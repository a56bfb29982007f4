"""The state of the chain that lives in this process: pyrevm, and what it leaves to us (fees, nonces)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.devnet.chain.transactions import Transaction, count_intrinsic_gas

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyrevm

GAS_LIMIT = 30_000_000  # of a block
_NOBODY = "0x" + "00" * 20
_OUTPUT = re.compile(r"output: 0x([0-9a-f]*)")
_HALTED = re.compile(r"reason: ([^,}]+)")


@dataclass(frozen=True, slots=True)
class Call:
    """Something to be run: what eth_call and eth_estimateGas are asked for."""

    sender: str = _NOBODY
    to: str | None = None
    data: bytes = b""
    value: int = 0
    gas: int = GAS_LIMIT


@dataclass(frozen=True, slots=True)
class RawLog:
    """One event: the contract, its topics and data as hex."""

    address: str
    topics: tuple[str, ...]
    data: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Attributes:
        ok: it came to its end.
        output: what it returned, or the revert data.
        halted: why the EVM stopped it ("OutOfGas"), if it did not revert by itself.
        gas_used: after refunds.
        gas_refunded: what it needed beyond `gas_used`, and got back.
        logs: none unless `ok`.
        created: the address of the contract that it made.
    """

    ok: bool
    output: bytes = b""
    halted: str | None = None
    gas_used: int = 0
    gas_refunded: int = 0
    logs: tuple[RawLog, ...] = ()
    created: str | None = None


class Ledger:
    """Accounts and contracts. Nothing here knows of blocks, but for the number and time that calls see."""

    def __init__(self, chain_id: int) -> None:
        import pyrevm

        config = pyrevm.CfgEnv(chain_id=chain_id)
        self._evm = pyrevm.EVM(pyrevm.Env(cfg=config), spec_id="SHANGHAI")

    def enter_block(self, number: int, timestamp: int) -> None:
        """Let all that runs from now on see that block."""
        import pyrevm

        self._evm.set_block_env(pyrevm.BlockEnv(number=number, timestamp=timestamp, gas_limit=GAS_LIMIT))

    def get_balance(self, address: str) -> int:
        """Return a balance in wei."""
        return self._evm.get_balance(address)

    def set_balance(self, address: str, wei: int) -> None:
        """Give an account exactly so much."""
        self._evm.set_balance(address, wei)

    def get_nonce(self, address: str) -> int:
        """Return how many transactions of the account are in blocks."""
        return self._evm.basic(address).nonce

    def get_code(self, address: str) -> bytes:
        """Return a contract's code; empty for anything else."""
        code = self._evm.get_code(address) or b""
        return b"" if code == b"\0" else bytes(code)

    def get_storage(self, address: str, slot: int) -> int:
        """Return one word of a contract's storage."""
        return self._evm.storage(address, slot)

    def call(self, call: Call) -> Outcome:
        """Run a call and take back whatever it changed."""
        return self._run(call, keep=False)

    def estimate(self, call: Call) -> Outcome:
        """Find the gas that a call needs; the outcome's `gas_used` says it, if it is `ok` at all."""
        first = self.call(call)
        if not first.ok:
            return first
        gas = first.gas_used + first.gas_refunded
        while gas < call.gas:
            # Calls of calls get 63/64 of what is left: a little more may be needed than was used.
            if self.call(Call(call.sender, call.to, call.data, call.value, gas)).ok:
                return Outcome(ok=True, gas_used=gas)
            gas = gas * 65 // 64 + 1
        return Outcome(ok=True, gas_used=call.gas)

    def apply(self, transaction: Transaction, price: int) -> Outcome:
        """Run a transaction for good; its sender pays `price` per gas, whatever comes of it."""
        sender, nonce = transaction.sender, transaction.nonce
        what = Call(sender, transaction.to, transaction.data, transaction.value, transaction.gas)
        outcome = self._run(what, keep=True)
        left = self.get_balance(sender) - outcome.gas_used * price
        self._set_account(sender, nonce + 1, left)
        return outcome

    def _set_account(self, address: str, nonce: int, balance: int) -> None:
        import pyrevm

        self._evm.insert_account_info(address, pyrevm.AccountInfo(nonce=nonce))
        self._evm.set_balance(address, balance)

    def _run(self, call: Call, *, keep: bool) -> Outcome:
        if call.gas < count_intrinsic_gas(call.data, creates=call.to is None):
            return Outcome(ok=False, halted="intrinsic gas too low", gas_used=call.gas)
        if self.get_balance(call.sender) < call.value:
            return Outcome(ok=False, halted="insufficient funds for transfer", gas_used=call.gas)
        checkpoint = self._evm.snapshot()
        created: str | None = None
        output = b""
        try:
            if call.to is None:
                created = self._deploy(call)
            else:
                output = bytes(self._send(call))
        except RuntimeError as error:
            self._evm.revert(checkpoint)
            return self._make_failure(str(error), call.gas)
        result = _require(self._evm.result)
        logs = tuple(_read_log(log) for log in result.logs)
        if keep:
            self._evm.commit()
        else:
            self._evm.revert(checkpoint)
        return Outcome(
            ok=True,
            output=output,
            gas_used=result.gas_used,
            gas_refunded=result.gas_refunded,
            logs=logs,
            created=created,
        )

    def _send(self, call: Call) -> Any:
        run: Callable[..., Any] = self._evm.message_call
        return run(call.sender, call.to, calldata=call.data, value=call.value, gas=call.gas)

    def _deploy(self, call: Call) -> str:
        from eth_utils.address import to_checksum_address

        return str(
            to_checksum_address(self._evm.deploy(call.sender, call.data, value=call.value, gas=call.gas))
        )

    def _make_failure(self, said: str, gas: int) -> Outcome:
        """Read what pyrevm puts into its message, for it is nowhere else."""
        reverted = _OUTPUT.search(said)
        if reverted:
            used = re.search(r"gas_used: (\d+)", said)
            output = bytes.fromhex(reverted[1])
            return Outcome(ok=False, output=output, gas_used=int(used[1]) if used else gas)
        halted = _HALTED.search(said)
        return Outcome(ok=False, halted=halted[1] if halted else said[:200], gas_used=gas)


def _require(result: pyrevm.ExecutionResult | None) -> pyrevm.ExecutionResult:
    if result is None:
        raise RuntimeError("pyrevm says nothing about the call that it made")
    return result


def _read_log(log: Any) -> RawLog:
    _topics, data = log.data
    return RawLog(str(log.address), tuple(log.topics), "0x" + bytes(data).hex())
