"""Delegated subscriptions on their chain: checked before they are sent, followed afterwards. Read-only.

Everything is asked in batches: looking at one subscription or at three hundred takes the same few requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.chain import rpc
from gateway.chain.rpc import Head, Reverted
from gateway.errors import ConfigError, Misbehaved
from gateway_infernet import contracts
from gateway_infernet.contracts import Deployment
from gateway_infernet.delegated import encode_subscription_tuple, recover_signer
from gateway_infernet.deliveries import DeliveryReader
from gateway_infernet.progress import Delivery, Look, Progress, Stored, get_interval, is_ours, progress_of
from gateway_infernet.subscription import (
    ZERO_ADDRESS,
    BadSignature,
    BadSubscription,
    Delegation,
    DelegationRefused,
    NonceUsed,
    OwnerNotDelegator,
    Signature,
    SignatureExpired,
    SignerMismatch,
    Subscription,
    to_checksum,
)

if TYPE_CHECKING:
    from gateway.chain.rpc import Asks, Web3

_REFUSALS: Mapping[str, type[DelegationRefused]] = {
    "SignerMismatch": SignerMismatch,
    "SignatureExpired": SignatureExpired,
    "InvalidSignature": BadSignature,
}


class CoordinatorReader:
    """Reads one Infernet deployment on one chain.

    Args:
        web3: of `gateway.chain.rpc.make_web3`; or a pool of RPCs, which learns what batches they take.
        address: the Registry's (which names the other contracts), or the Coordinator's own.
        chain_id: of the chain that it must be; None: whatever the RPC shows.
        inbox: the Inbox's, where `address` is the Coordinator's; without it lazy results can't be read.
        confirmations: how many blocks must lie over what is believed.
    """

    def __init__(
        self,
        web3: Web3 | Asks,
        address: str,
        *,
        chain_id: int | None = None,
        inbox: str | None = None,
        confirmations: int = 0,
    ) -> None:
        self._web3 = web3
        self._address = address
        self._chain_id = chain_id
        self._inbox = inbox
        self._confirmations = confirmations
        self._deployment: Deployment | None = None
        self._deliveries = DeliveryReader(web3)

    async def resolve(self) -> Deployment:
        """Find the contracts, once. Raises ConfigError if there is no Coordinator of Infernet 1.x."""
        if self._deployment is None:
            coordinator = await self._ask_address(self._address, "COORDINATOR")
            inbox = await self._ask_address(self._address, "INBOX") if coordinator else self._inbox
            self._deployment = await self._check_coordinator(coordinator or self._address, inbox)
        return self._deployment

    async def fetch_head(self) -> Head:
        """Fetch the newest block that is believed; its number belongs into `Delegation.from_block`."""
        return await rpc.fetch_head(self._web3, behind=self._confirmations)

    async def fetch_signer(self, owner: str) -> str:
        """Fetch who signs for an owner. Raises OwnerNotDelegator if it is no contract with getSigner()."""
        if await rpc.request(self._web3, "eth_getCode", [owner, "latest"]) in ("0x", None):
            raise OwnerNotDelegator(
                f"the owner {owner} is not a contract, nobody can sign for it", code="owner"
            )
        signer = await self._ask_address(owner, "getSigner")
        if signer is None:
            raise OwnerNotDelegator(
                f"the owner {owner} has no getSigner(), nobody can sign for it", code="owner"
            )
        return signer

    async def preflight(self, subscription: Subscription, signature: Signature) -> int:
        """Let the coordinator verify a signature without sending anything; return the id it would create.

        Raises:
            NonceUsed, SignatureExpired, SignerMismatch, BadSignature, OwnerNotDelegator: it would never work.
            BadSubscription: a lazy one, and no Inbox is known to read its results from.
            RpcRefused, Unavailable, Throttled, Misbehaved: there is no answer.
        """
        deployment = await self.resolve()
        if subscription.lazy and deployment.inbox is None:
            raise BadSubscription("lazy results need the Registry's (or the Inbox's) address", code="lazy")
        used = await self.fetch_subscription_id(subscription.owner, signature.nonce)
        if used is not None:
            # Asked first: for a used nonce the coordinator looks at neither expiry nor signature.
            raise NonceUsed(
                f"nonce {signature.nonce} is subscription {used} of {subscription.owner} already",
                code="nonce",
                detail={"subscription_id": used},
            )
        call = contracts.encode_call(
            "createSubscriptionDelegatee",
            signature.nonce,
            signature.expiry,
            encode_subscription_tuple(subscription),
            signature.v,
            signature.r.to_bytes(32, "big"),
            signature.s.to_bytes(32, "big"),
        )
        try:
            [result] = await rpc.fetch_calls(self._web3, [(deployment.coordinator, call)])
        except Reverted as error:
            raise await self._explain(error, subscription, signature, deployment) from error
        created: int = contracts.parse_result("createSubscriptionDelegatee", result)[0]
        return created

    async def fetch_subscription_id(self, owner: str, nonce: int) -> int | None:
        """Fetch the id of what an owner and a nonce stand for; None if nothing was created (yet)."""
        deployment = await self.resolve()
        call = _encode_created_call(owner, nonce)
        [result] = await rpc.fetch_calls(self._web3, [(deployment.coordinator, call)])
        created: int = contracts.parse_result("delegateCreatedIds", result)[0]
        return created or None

    async def fetch_progress(self, delegations: Sequence[Delegation]) -> dict[Delegation, Progress]:
        """Look at many subscriptions at one block, in a few requests.

        Raises:
            Misbehaved: one of them belongs to another chain or coordinator than this one.
            RpcRefused, Unavailable, Throttled, Misbehaved: there is no news of any.
        """
        if not delegations:
            return {}
        deployment = await self.resolve()
        for delegation in delegations:
            _check_belongs(delegation, deployment)
        head = await self.fetch_head()
        told = await self._fetch_ids(delegations, deployment, head)
        stored = await self._fetch_stored(filter(None, told.values()), deployment, head)
        # Without its subscription an id is of a later block than was asked for.
        ids = {
            of: number if number in stored and stored[number].is_there else 0 for of, number in told.items()
        }
        ours = {of: number for of, number in ids.items() if number and is_ours(stored[number], of)}
        deliveries = await self._deliveries.fetch(ours, deployment, head)
        counts = await self._fetch_counts(ours, deliveries, deployment, head)
        looks = {
            delegation: Look(
                head=head,
                subscription_id=number,
                stored=stored.get(number),
                deliveries=tuple(deliveries.get(number, ())),
                counts=counts.get(number, {}),
            )
            for delegation, number in ids.items()
        }
        return {delegation: progress_of(delegation, look) for delegation, look in looks.items()}

    async def _fetch_ids(
        self, delegations: Sequence[Delegation], deployment: Deployment, head: Head
    ) -> dict[Delegation, int]:
        calls = [_encode_created_call(d.subscription.owner, d.signature.nonce) for d in delegations]
        results = await self._call_coordinator(calls, deployment, head)
        return {
            delegation: contracts.parse_result("delegateCreatedIds", result)[0]
            for delegation, result in zip(delegations, results, strict=True)
        }

    async def _fetch_stored(
        self, ids: Iterable[int], deployment: Deployment, head: Head
    ) -> dict[int, Stored]:
        numbers = list(dict.fromkeys(ids))
        calls = [contracts.encode_call("getSubscription", number) for number in numbers]
        results = await self._call_coordinator(calls, deployment, head)
        return {
            number: Stored.of(contracts.parse_result("getSubscription", result)[0])
            for number, result in zip(numbers, results, strict=True)
        }

    async def _fetch_counts(
        self,
        created: Mapping[Delegation, int],
        deliveries: Mapping[int, Sequence[Delivery]],
        deployment: Deployment,
        head: Head,
    ) -> dict[int, dict[int, int]]:
        """Fetch the coordinator's counts, of the intervals that have answers and of the newest one."""
        asked = [(number, d.interval) for number, found in deliveries.items() for d in found]
        newest = ((number, get_interval(of, head.timestamp)) for of, number in created.items())
        pairs = [*dict.fromkeys([*asked, *((n, interval) for n, interval in newest if interval is not None)])]
        keys = [contracts.encode_key(("uint32", "uint32"), *pair) for pair in pairs]
        calls = [contracts.encode_call("redundancyCount", key) for key in keys]
        counts: dict[int, dict[int, int]] = {number: {} for number in created.values()}
        results = await self._call_coordinator(calls, deployment, head)
        for (number, interval), result in zip(pairs, results, strict=True):
            counts[number][interval] = contracts.parse_result("redundancyCount", result)[0]
        return counts

    async def _call_coordinator(
        self, calls: Sequence[bytes], deployment: Deployment, head: Head
    ) -> list[bytes]:
        return await rpc.fetch_calls(
            self._web3, [(deployment.coordinator, call) for call in calls], block=head.number
        )

    async def _ask_address(self, contract: str, function: str) -> str | None:
        """Call a getter of an address; None if the contract has none, or is none."""
        try:
            [result] = await rpc.fetch_calls(self._web3, [(contract, contracts.encode_call(function))])
            address: str = contracts.parse_result(function, result)[0]
        except (Reverted, Misbehaved):
            return None
        return None if address == ZERO_ADDRESS else to_checksum(address)

    async def _check_coordinator(self, coordinator: str, inbox: str | None) -> Deployment:
        """Look at the domain that it verifies signatures for: 0.x had another one."""
        chain_id = await rpc.fetch_chain_id(self._web3)
        if self._chain_id not in (None, chain_id):
            raise ConfigError(f"the RPC shows chain {chain_id}, and {self._chain_id} is configured")
        call = contracts.encode_call("eip712Domain")
        try:
            [result] = await rpc.fetch_calls(self._web3, [(coordinator, call)])
            _, name, version, signed_id, contract, *_ = contracts.parse_result("eip712Domain", result)
        except (Reverted, Misbehaved) as error:
            raise ConfigError(
                f"{self._address} is neither a Registry nor a Coordinator of Infernet 1.x on chain {chain_id}"
            ) from error
        found = (name, version, signed_id, to_checksum(contract))
        expected = ("InfernetCoordinator", "1", chain_id, to_checksum(coordinator))
        if found != expected:
            raise ConfigError(f"{coordinator} verifies signatures for {found}, and {expected} was expected")
        return Deployment(chain_id, to_checksum(coordinator), inbox)

    async def _explain(
        self, error: Reverted, subscription: Subscription, signature: Signature, deployment: Deployment
    ) -> DelegationRefused | Reverted:
        """Say why the coordinator refused; an owner that is no delegator makes it revert without a word."""
        name = contracts.get_error(error.data)
        signer = await self.fetch_signer(subscription.owner)
        if name is None or name not in _REFUSALS:
            return error
        message = f"the coordinator refuses the signature: {name}"
        if name == "SignerMismatch":
            signed = recover_signer(subscription, signature, deployment.chain_id, deployment.coordinator)
            message += (
                f"; {signer} signs for {subscription.owner}, and this is by {signed} or for another chain"
            )
        return _REFUSALS[name](message, code=name)


def _encode_created_call(owner: str, nonce: int) -> bytes:
    return contracts.encode_call(
        "delegateCreatedIds", contracts.encode_key(("address", "uint32"), owner, nonce)
    )


def _check_belongs(delegation: Delegation, deployment: Deployment) -> None:
    theirs = (delegation.chain_id, delegation.coordinator.lower())
    if theirs != (deployment.chain_id, deployment.coordinator.lower()):
        raise Misbehaved(
            f"{delegation.job_id} lives at {delegation.coordinator} on chain {delegation.chain_id},"
            f" and the RPC shows {deployment.coordinator} on chain {deployment.chain_id}"
        )
