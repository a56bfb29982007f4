// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Registry} from "./Registry.sol";

struct InboxItem {
    uint32 timestamp;
    uint32 subscriptionId; // 0 for an item that no subscription asked for
    uint32 interval;
    bytes input;
    bytes output;
    bytes proof;
}

/// Keeps the results of lazy subscriptions, by container and node.
contract Inbox {
    Registry private immutable REGISTRY;

    mapping(bytes32 containerId => mapping(address node => InboxItem[])) private _items;

    event NewInboxItem(bytes32 indexed containerId, address indexed node, uint256 index);

    error NotCoordinator();

    constructor(Registry registry) {
        REGISTRY = registry;
    }

    /// Anybody may leave an item under his own address.
    function write(bytes32 containerId, bytes calldata input, bytes calldata output, bytes calldata proof)
        external
        returns (uint256 index)
    {
        return _store(containerId, msg.sender, InboxItem(uint32(block.timestamp), 0, 0, input, output, proof));
    }

    /// The coordinator leaves an item in the name of the node that delivered it.
    function writeViaCoordinator(
        bytes32 containerId,
        address node,
        uint32 subscriptionId,
        uint32 interval,
        bytes calldata input,
        bytes calldata output,
        bytes calldata proof
    ) external returns (uint256 index) {
        if (msg.sender != REGISTRY.COORDINATOR()) revert NotCoordinator();
        return _store(
            containerId, node, InboxItem(uint32(block.timestamp), subscriptionId, interval, input, output, proof)
        );
    }

    function read(bytes32 containerId, address node, uint256 index) external view returns (InboxItem memory) {
        return _items[containerId][node][index];
    }

    function _store(bytes32 containerId, address node, InboxItem memory item) private returns (uint256 index) {
        InboxItem[] storage shelf = _items[containerId][node];
        index = shelf.length;
        shelf.push(item);
        emit NewInboxItem(containerId, node, index);
    }
}
