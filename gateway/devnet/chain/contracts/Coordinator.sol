// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Inbox} from "./Inbox.sol";
import {Registry} from "./Registry.sol";

struct Subscription {
    address owner;
    uint32 activeAt;
    uint32 period;
    uint32 frequency;
    uint16 redundancy;
    bytes32 containerId;
    bool lazy;
    address verifier;
    uint256 paymentAmount;
    address paymentToken;
    address wallet;
}

interface IOwner {
    /// Who signs for this contract.
    function getSigner() external view returns (address);

    /// Takes an answer; a lazy one comes with empty bytes and the place where it lies in the inbox.
    function rawReceiveCompute(
        uint32 subscriptionId,
        uint32 interval,
        uint16 redundancy,
        address node,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof,
        bytes32 containerId,
        uint256 index
    ) external;
}

/// Speaks as Infernet's coordinator does to those who sign, deliver and follow subscriptions.
/// Payments and verifiers are left out: delivering a subscription that pays reverts with InvalidWallet.
contract Coordinator {
    bytes32 private constant SUBSCRIPTION_TYPE = keccak256(
        "Subscription(address owner,uint32 activeAt,uint32 period,uint32 frequency,uint16 redundancy,bytes32 containerId,bool lazy,address verifier,uint256 paymentAmount,address paymentToken,address wallet)"
    );
    bytes32 private constant DELEGATE_TYPE = keccak256(
        "DelegateSubscription(uint32 nonce,uint32 expiry,Subscription sub)Subscription(address owner,uint32 activeAt,uint32 period,uint32 frequency,uint16 redundancy,bytes32 containerId,bool lazy,address verifier,uint256 paymentAmount,address paymentToken,address wallet)"
    );
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    uint32 private constant NEVER = type(uint32).max;

    Registry private immutable REGISTRY;

    uint32 public id = 1; // of the next subscription; 0 means none
    mapping(bytes32 ownerAndNonce => uint32) public delegateCreatedIds;
    mapping(address owner => uint32) public maxSubscriberNonce;
    mapping(bytes32 idAndInterval => uint16) public redundancyCount;
    mapping(bytes32 idAndIntervalAndNode => bool) public nodeResponded;
    mapping(uint32 id => Subscription) private _subscriptions;

    event SubscriptionCreated(uint32 indexed id);
    event SubscriptionCancelled(uint32 indexed id);
    event SubscriptionFulfilled(uint32 indexed id, address indexed node);

    error SignerMismatch();
    error SignatureExpired();
    error InvalidSignature();
    error InvalidWallet();
    error IntervalMismatch();
    error IntervalCompleted();
    error NodeRespondedAlready();
    error SubscriptionNotFound();
    error NotSubscriptionOwner();
    error SubscriptionCompleted();
    error SubscriptionNotActive();

    constructor(Registry registry) {
        REGISTRY = registry;
    }

    /// EIP-5267: what a signer must put into the domain.
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        return (hex"0f", "InfernetCoordinator", "1", block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    function getSubscription(uint32 subscriptionId) external view returns (Subscription memory) {
        return _subscriptions[subscriptionId];
    }

    function getSubscriptionInterval(uint32 activeAt, uint32 period) public view returns (uint32) {
        return period == 0 ? 1 : (uint32(block.timestamp) - activeAt) / period + 1;
    }

    /// A nonce that was used once gives the subscription of that time, whatever else is in the call.
    function createSubscriptionDelegatee(
        uint32 nonce,
        uint32 expiry,
        Subscription calldata sub,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) public returns (uint32 created) {
        bytes32 key = keccak256(abi.encode(sub.owner, nonce));
        created = delegateCreatedIds[key];
        if (created != 0) return created;

        if (block.timestamp >= expiry) revert SignatureExpired();
        address signer = ecrecover(_digest(nonce, expiry, sub), v, r, s);
        if (signer == address(0)) revert InvalidSignature();
        if (signer != IOwner(sub.owner).getSigner()) revert SignerMismatch();

        created = id++;
        _subscriptions[created] = sub;
        delegateCreatedIds[key] = created;
        if (nonce > maxSubscriberNonce[sub.owner]) maxSubscriberNonce[sub.owner] = nonce;
        emit SubscriptionCreated(created);
    }

    function deliverComputeDelegatee(
        uint32 nonce,
        uint32 expiry,
        Subscription calldata sub,
        uint8 v,
        bytes32 r,
        bytes32 s,
        uint32 deliveryInterval,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof,
        address nodeWallet
    ) external {
        uint32 subscriptionId = createSubscriptionDelegatee(nonce, expiry, sub, v, r, s);
        deliverCompute(subscriptionId, deliveryInterval, input, output, proof, nodeWallet);
    }

    function deliverCompute(
        uint32 subscriptionId,
        uint32 deliveryInterval,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof,
        address nodeWallet
    ) public {
        Subscription memory sub = _subscriptions[subscriptionId];
        _count(subscriptionId, deliveryInterval, sub, nodeWallet);
        emit SubscriptionFulfilled(subscriptionId, msg.sender);
        if (sub.lazy) {
            uint256 index = Inbox(REGISTRY.INBOX()).writeViaCoordinator(
                sub.containerId, msg.sender, subscriptionId, deliveryInterval, input, output, proof
            );
            _hand(subscriptionId, deliveryInterval, sub.owner, "", "", "", sub.containerId, index);
        } else {
            _hand(subscriptionId, deliveryInterval, sub.owner, input, output, proof, bytes32(0), 0);
        }
    }

    function cancelSubscription(uint32 subscriptionId) external {
        Subscription storage sub = _subscriptions[subscriptionId];
        if (sub.owner != msg.sender) revert NotSubscriptionOwner();
        sub.activeAt = NEVER;
        emit SubscriptionCancelled(subscriptionId);
    }

    /// Checks that this delivery is due, and writes down that it came.
    function _count(uint32 subscriptionId, uint32 interval, Subscription memory sub, address nodeWallet) private {
        if (sub.owner == address(0)) revert SubscriptionNotFound();
        if (block.timestamp < sub.activeAt) revert SubscriptionNotActive();
        uint32 current = getSubscriptionInterval(sub.activeAt, sub.period);
        if (current > sub.frequency) revert SubscriptionCompleted();
        if (current != interval) revert IntervalMismatch();
        if (sub.paymentAmount != 0 || (sub.wallet != address(0) && nodeWallet == address(0))) revert InvalidWallet();

        bytes32 slot = keccak256(abi.encode(subscriptionId, interval));
        if (redundancyCount[slot] == sub.redundancy) revert IntervalCompleted();
        redundancyCount[slot]++;

        slot = keccak256(abi.encode(subscriptionId, interval, msg.sender));
        if (nodeResponded[slot]) revert NodeRespondedAlready();
        nodeResponded[slot] = true;
    }

    function _hand(
        uint32 subscriptionId,
        uint32 interval,
        address owner,
        bytes memory input,
        bytes memory output,
        bytes memory proof,
        bytes32 containerId,
        uint256 index
    ) private {
        uint16 answers = redundancyCount[keccak256(abi.encode(subscriptionId, interval))];
        IOwner(owner).rawReceiveCompute(
            subscriptionId, interval, answers, msg.sender, input, output, proof, containerId, index
        );
    }

    function _digest(uint32 nonce, uint32 expiry, Subscription calldata sub) private view returns (bytes32) {
        // Every member takes one word, so the struct's ABI encoding is the concatenation that EIP-712 wants.
        bytes32 subHash = keccak256(abi.encode(SUBSCRIPTION_TYPE, sub));
        bytes32 structHash = keccak256(abi.encode(DELEGATE_TYPE, nonce, expiry, subHash));
        bytes32 domain = keccak256(
            abi.encode(
                DOMAIN_TYPE, keccak256("InfernetCoordinator"), keccak256("1"), block.chainid, address(this)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }
}
