// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Coordinator, IOwner} from "./Coordinator.sol";
import {Registry} from "./Registry.sol";

/// Owns subscriptions: names its signer, keeps the last answer, and can be told to refuse.
contract Consumer is IOwner {
    Registry private immutable REGISTRY;
    address private immutable SIGNER;

    struct Answer {
        uint32 subscriptionId;
        uint32 interval;
        uint16 redundancy;
        address node;
        bytes input;
        bytes output;
        bytes proof;
        bytes32 containerId;
        uint256 index;
    }

    uint256 public answers;
    bool public refusing;
    Answer private _last;
    bytes private _inputs;

    event Received(uint32 indexed subscriptionId, uint32 indexed interval, address indexed node, bytes output);

    error NotCoordinator();
    error Refused();

    constructor(Registry registry, address signer) {
        REGISTRY = registry;
        SIGNER = signer;
    }

    function getSigner() external view returns (address) {
        return SIGNER;
    }

    function getContainerInputs(uint32, uint32, uint32, address) external view returns (bytes memory) {
        return _inputs;
    }

    function last() external view returns (Answer memory) {
        return _last;
    }

    /// What later intervals of a recurring subscription are computed from.
    function setInputs(bytes calldata inputs) external {
        _inputs = inputs;
    }

    function setRefusing(bool refuse) external {
        refusing = refuse;
    }

    function cancel(uint32 subscriptionId) external {
        Coordinator(REGISTRY.COORDINATOR()).cancelSubscription(subscriptionId);
    }

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
    ) external {
        if (msg.sender != REGISTRY.COORDINATOR()) revert NotCoordinator();
        if (refusing) revert Refused();
        answers++;
        _receiveCompute(
            Answer(subscriptionId, interval, redundancy, node, input, output, proof, containerId, index)
        );
        emit Received(subscriptionId, interval, node, output);
    }

    function _receiveCompute(Answer memory answer) internal virtual {
        _last = answer;
    }
}
