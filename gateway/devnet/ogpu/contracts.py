"""Speaking to OGPU's contracts: deploy them, encode calls, ask views, read events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from gateway.chain.rpc import Log, fetch_logs, translated
from gateway.devnet.chain.compile_contracts import OGPU_CONTRACTS, load_compiled
from gateway.types import JSON

if TYPE_CHECKING:
    from gateway.chain.rpc import Web3
    from gateway.devnet.chain.wallet import Wallet


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the contracts are."""

    nexus: str
    controller: str
    terminal: str
    vault: str
    manager: str


@cache
def load_contracts() -> dict[str, JSON]:
    """Load the compiled contracts: name to {"abi", "bytecode"}."""
    contracts: dict[str, JSON] = load_compiled(OGPU_CONTRACTS)["contracts"]
    return contracts


class Contracts:
    """The contracts on one chain, by the names of their sources."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self._kinds: dict[str, Any] = {}

    def encode(self, kind: str, function: str, *arguments: Any) -> bytes:
        """Encode a call of a function."""
        encoded = self._get_kind(kind).encode_abi(function, args=list(arguments))
        return bytes.fromhex(str(encoded).removeprefix("0x"))

    async def ask(self, kind: str, address: str, function: str, *arguments: Any) -> Any:
        """Call a view; return what it returns. Raises Misbehaved if no such contract is there."""
        from eth_utils.address import to_checksum_address

        contract = self._get_kind(kind)(to_checksum_address(address))
        with translated(function):
            return await contract.functions[function](*arguments).call()

    async def deploy(self, wallet: Wallet, kind: str, *arguments: Any) -> str:
        """Deploy one of them, in a block made for it; return its address."""
        from eth_utils.address import to_checksum_address

        data = str(self._get_kind(kind).constructor(*arguments).data_in_transaction)
        receipt = await wallet.send(None, bytes.fromhex(data.removeprefix("0x")), mine=True)
        return str(to_checksum_address(receipt["contractAddress"]))

    async def fetch_events(self, nexus: str, name: str, *, first: int, last: int) -> list[tuple[Any, ...]]:
        """Fetch the arguments of all events of the Nexus with that name between two blocks."""
        topic, types = get_event(name)
        logs = await fetch_logs(self.web3, nexus, [[topic]], first=first, last=last)
        return [_decode(types, log) for log in logs]

    def _get_kind(self, kind: str) -> Any:
        if kind not in self._kinds:
            compiled = load_contracts()[kind]
            self._kinds[kind] = self.web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
        return self._kinds[kind]


@cache
def get_event(name: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the topic and the types of an event of the Nexus."""
    from eth_utils.crypto import keccak

    [event] = [e for e in load_contracts()["Nexus"]["abi"] if e["type"] == "event" and e["name"] == name]
    types = tuple(encode_type(each) for each in event["inputs"])
    return keccak(text=f"{name}({','.join(types)})"), types


def encode_type(entry: JSON) -> str:
    """Write an ABI entry's type as signatures have it."""
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    inside = ",".join(encode_type(component) for component in entry["components"])
    return f"({inside}){entry['type'][5:]}"


def _decode(types: Sequence[str], log: Log) -> tuple[Any, ...]:
    from eth_abi.abi import decode
    from eth_utils.address import to_checksum_address

    values = zip(types, decode(types, log.data), strict=True)
    return tuple(to_checksum_address(value) if kind == "address" else value for kind, value in values)
