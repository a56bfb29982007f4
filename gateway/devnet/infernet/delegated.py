"""Delegated subscriptions: what the node's REST side checks, and the seam to a chain.

The REST side looks at very little (measured on nodes 1.0.0 to 1.4.0): the types of the fields, whether the
chain is on, the expiry and which containers a hash stands for. Signature, signer, nonce, consumer and payment
are looked at after the `200 {}` was sent; what fails there is only in the node's log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import permutations
from typing import Protocol, TypeAlias

from gateway.types import JSON

OutputOf: TypeAlias = Callable[[JSON], Awaitable[JSON]]
"""Run the subscription's containers, in their order, over one input; return the last one's output.

The input is the REST `data` for the first interval, and for later ones the hex text (without 0x) of what the
consumer's getContainerInputs() returned. Raises ContainerError when a container fails.
"""


class ChainSide(Protocol):
    """The part of a node that listens and delivers on a chain. A node without one has no chain."""

    address: str
    """The node's wallet address, as /info shows it."""

    async def deliver(
        self,
        subscription: Mapping[str, JSON],
        signature: Mapping[str, JSON],
        data: Mapping[str, JSON],
        output_of: OutputOf,
    ) -> None:
        """Create the subscription on the chain and deliver its intervals; called once per accepted POST.

        `subscription` and `signature` are the REST bodies as sent (containers: the hash as hex, with or
        without 0x; r and s: 256-bit integers). It runs in the background until it returns or the node
        stops (then it is cancelled). Repeats of (owner, nonce) are the chain side's to recognise. What it
        raises is logged and goes nowhere else, as with the node.
        """


SUBSCRIPTION_FIELDS: Mapping[str, type] = {
    "owner": str,
    "active_at": int,
    "period": int,
    "frequency": int,
    "redundancy": int,
    "containers": str,
    "lazy": bool,
    "verifier": str,
    "payment_amount": int,
    "payment_token": str,
    "wallet": str,
}
SIGNATURE_FIELDS: Mapping[str, type] = {"nonce": int, "expiry": int, "v": int, "r": int, "s": int}

ZERO_ADDRESS = "0x" + "0" * 40
LONGEST_CHAIN = 3


def make_containers_hash(containers: Iterable[str]) -> bytes:
    """Return keccak256(abi.encode("a,b,c")), by which the chain names an ordered set of containers."""
    from eth_utils.crypto import keccak

    text = ",".join(containers).encode()
    padding = b"\0" * (-len(text) % 32)
    return keccak((32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + text + padding)


def find_containers(containers_hash: bytes, known: Iterable[str]) -> list[str] | None:
    """Return the ordered ids that the hash stands for; None if no chain of up to LONGEST_CHAIN of them does.

    The node builds a table of all ordered subsets at its start, which grows with the factorial of the number
    of containers (nine took a real node 21 seconds), so the stand-in searches when it is asked.
    """
    ids = tuple(known)
    for length in range(1, LONGEST_CHAIN + 1):
        for chosen in permutations(ids, length):
            if make_containers_hash(chosen) == containers_hash:
                return list(chosen)
    return None
