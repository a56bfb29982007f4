"""What the local chain answers to each JSON-RPC method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.devnet.chain.blockchain import Blockchain
from gateway.devnet.chain.blocks import Block
from gateway.devnet.chain.ledger import GAS_LIMIT, Call, Outcome
from gateway.devnet.chain.rpc_server import RpcError
from gateway.devnet.chain.transactions import BadTransaction
from gateway.types import JSON

_TIP_WEI = 10**9
_REVERTED = 3
_ERROR_STRING, _PANIC = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")


class RpcMethods:
    """Answers for one chain: web3's `eth_...`, and those of `evm_...` and `anvil_...` that tests use."""

    def __init__(self, chain: Blockchain) -> None:
        self._chain = chain
        self._methods: dict[str, Callable[..., JSON]] = {
            **_make_chain_methods(chain),
            **_make_account_methods(chain),
            **_make_control_methods(chain),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionByHash": self._get_transaction,
            "eth_getTransactionReceipt": self._get_receipt,
            "eth_getLogs": self._get_logs,
        }

    def answer(self, method: str, params: list[JSON]) -> JSON:
        """Answer one question. Raises RpcError."""
        known = self._methods.get(method)
        if known is None:
            raise RpcError(-32601, f"the method {method} does not exist/is not available")
        try:
            return known(*params)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RpcError(-32602, f"invalid argument: {error}") from error

    def _call(self, said: Mapping[str, JSON], block: JSON = "latest", *_overrides: JSON) -> str:
        find_block(self._chain, block)
        outcome = self._chain.ledger.call(_read_call(said))
        _check(outcome)
        return "0x" + outcome.output.hex()

    def _estimate(self, said: Mapping[str, JSON], block: JSON = "latest", *_overrides: JSON) -> str:
        find_block(self._chain, block)
        outcome = self._chain.ledger.estimate(_read_call(said))
        _check(outcome)
        return hex(outcome.gas_used)

    def _send(self, raw: str) -> str:
        try:
            return self._chain.add(bytes.fromhex(raw.removeprefix("0x")))
        except BadTransaction as error:
            raise RpcError(-32000, str(error)) from error

    def _get_transaction(self, wanted: str) -> JSON:
        place = self._chain.places.get(wanted.lower())
        if place is not None:
            return place[0].describe_transaction(place[1])
        pooled = self._chain.pool.get(wanted.lower())
        nowhere = {"blockHash": None, "blockNumber": None, "transactionIndex": None}
        return None if pooled is None else {**pooled.describe(), **nowhere}

    def _get_receipt(self, wanted: str) -> JSON:
        place = self._chain.places.get(wanted.lower())
        return None if place is None else place[0].describe_receipt(place[1])

    def _get_logs(self, wanted: Mapping[str, JSON]) -> list[JSON]:
        blocks = self._chain.blocks
        if wanted.get("blockHash"):
            scanned = [block for block in blocks if block.hash == wanted["blockHash"]]
            if not scanned:
                raise RpcError(-32000, "unknown block")
        else:
            first = _read_number(self._chain, wanted.get("fromBlock", "latest"))
            last = _read_number(self._chain, wanted.get("toBlock", "latest"))
            if first > last:
                raise RpcError(-32602, "invalid block range params")
            scanned = blocks[first : last + 1]
        return [
            log
            for block in scanned
            for index in range(len(block.mined))
            for log in block.describe_logs(index)
            if _fits(log, wanted)
        ]


def _make_chain_methods(chain: Blockchain) -> dict[str, Callable[..., JSON]]:
    def get_block(which: JSON, whole: bool = False) -> JSON:  # noqa: FBT001, FBT002  the RPC's parameter
        number = _read_number(chain, which)
        return chain.blocks[number].describe(whole=whole) if number < len(chain.blocks) else None

    def get_block_by_hash(wanted: str, whole: bool = False) -> JSON:  # noqa: FBT001, FBT002  the same
        found = [block for block in chain.blocks if block.hash == wanted]
        return found[0].describe(whole=whole) if found else None

    def get_receipts(which: JSON) -> JSON:
        block = find_block(chain, which)
        return [block.describe_receipt(index) for index in range(len(block.mined))]

    def get_fee_history(count: str | int, newest: JSON, percentiles: list[float] | None = None) -> JSON:
        last = _read_number(chain, newest)
        wanted = int(count, 16) if isinstance(count, str) else count
        blocks = chain.blocks[max(0, last + 1 - wanted) : last + 1]
        tips = [hex(_TIP_WEI) for _ in percentiles or ()]
        return {
            "oldestBlock": hex(blocks[0].number),
            "baseFeePerGas": [*(hex(block.base_fee) for block in blocks), hex(chain.base_fee)],
            "gasUsedRatio": [block.gas_used / GAS_LIMIT for block in blocks],
            "reward": [tips for _ in blocks],
        }

    return {
        "eth_chainId": lambda: hex(chain.chain_id),
        "net_version": lambda: str(chain.chain_id),
        "web3_clientVersion": lambda: "devnet/pyrevm",
        "eth_syncing": lambda: False,
        "eth_accounts": list,
        "eth_blockNumber": lambda: hex(chain.head.number),
        "eth_gasPrice": lambda: hex(chain.base_fee + _TIP_WEI),
        "eth_maxPriorityFeePerGas": lambda: hex(_TIP_WEI),
        "eth_feeHistory": get_fee_history,
        "eth_getBlockByNumber": get_block,
        "eth_getBlockByHash": get_block_by_hash,
        "eth_getBlockReceipts": get_receipts,
    }


def _make_account_methods(chain: Blockchain) -> dict[str, Callable[..., JSON]]:
    def count_transactions(address: str, block: JSON = "latest") -> str:
        return hex(chain.count_transactions(address, pending=block == "pending"))

    return {
        "eth_getBalance": lambda address, *_: hex(chain.ledger.get_balance(address)),
        "eth_getCode": lambda address, *_: "0x" + chain.ledger.get_code(address).hex(),
        "eth_getStorageAt": lambda address, slot, *_: (
            f"0x{chain.ledger.get_storage(address, int(slot, 16)):064x}"
        ),
        "eth_getTransactionCount": count_transactions,
    }


def _make_control_methods(chain: Blockchain) -> dict[str, Callable[..., JSON]]:
    def mine(*_: JSON) -> str:
        chain.mine()
        return "0x0"

    def set_balance(address: str, wei: str | int) -> None:
        chain.set_balance(address, _read_quantity(wei))

    def set_base_fee(wei: str | int) -> None:
        chain.base_fee = _read_quantity(wei)

    def set_automine(value: bool) -> None:  # noqa: FBT001  the RPC's parameter
        chain.automine = value

    def skip(seconds: str | int) -> int:
        chain.skip(_read_quantity(seconds))
        return _read_quantity(seconds)

    def drop(wanted: str) -> str | None:
        return wanted if chain.pool.pop(wanted.lower(), None) else None

    return {
        "evm_mine": mine,
        "evm_setAutomine": set_automine,
        "evm_increaseTime": skip,
        "evm_setNextBlockTimestamp": lambda timestamp: chain.skip_to(_read_quantity(timestamp)),
        "anvil_dropTransaction": drop,
        "anvil_reorg": lambda depth, _transactions: chain.reorganize(int(depth)),
        "anvil_setBalance": set_balance,
        "anvil_setNextBlockBaseFeePerGas": set_base_fee,
    }


def find_block(chain: Blockchain, which: JSON) -> Block:
    """Return a block by number, tag or {"blockHash"} or {"blockNumber"}. Raises RpcError if there is none."""
    if isinstance(which, Mapping) and which.get("blockHash"):
        found = [block for block in chain.blocks if block.hash == which["blockHash"]]
    else:
        number = _read_number(chain, which["blockNumber"] if isinstance(which, Mapping) else which)
        found = chain.blocks[number : number + 1]
    if not found:
        raise RpcError(-32000, "header not found")
    return found[0]


def _read_number(chain: Blockchain, which: JSON) -> int:
    if which == "earliest":
        return 0
    if which in ("latest", "pending", "safe", "finalized", None):
        return chain.head.number
    return int(str(which), 16)


def _read_quantity(said: str | int) -> int:
    return int(said, 16) if isinstance(said, str) else said


def _read_call(said: Mapping[str, Any]) -> Call:
    data = str(said.get("input") or said.get("data") or "0x")
    return Call(
        sender=said.get("from") or Call().sender,
        to=said.get("to"),
        data=bytes.fromhex(data.removeprefix("0x")),
        value=int(said.get("value") or "0x0", 16),
        gas=min(GAS_LIMIT, int(said.get("gas") or hex(GAS_LIMIT), 16)),
    )


def _check(outcome: Outcome) -> None:
    if outcome.ok:
        return
    if outcome.halted is not None:
        raise RpcError(-32000, outcome.halted)
    reason = _read_reason(outcome.output)
    raise RpcError(
        _REVERTED, f"execution reverted{': ' if reason else ''}{reason}", "0x" + outcome.output.hex()
    )


def _read_reason(data: bytes) -> str:
    if data[:4] == _ERROR_STRING:
        length = int.from_bytes(data[36:68])
        return data[68 : 68 + length].decode(errors="replace")
    if data[:4] == _PANIC:
        return f"panic code 0x{int.from_bytes(data[4:36]):x}"
    return ""


def _fits(log: JSON, wanted: Mapping[str, JSON]) -> bool:
    address = wanted.get("address")
    addresses = [address] if isinstance(address, str) else address or []
    if addresses and log["address"] not in [each.lower() for each in addresses]:
        return False
    topics = wanted.get("topics") or []
    if len(topics) > len(log["topics"]):
        return False
    return all(
        some is None or topic in ([some] if isinstance(some, str) else some or [topic])
        for some, topic in zip(topics, log["topics"], strict=False)
    )
