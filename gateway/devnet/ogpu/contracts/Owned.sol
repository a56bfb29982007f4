// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

/// One owner, with the functions, the event and the errors that OpenZeppelin's Ownable has in its ABI.
abstract contract Owned {
    address public owner;

    event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);

    error OwnableInvalidOwner(address owner);
    error OwnableUnauthorizedAccount(address account);

    modifier onlyOwner() {
        if (msg.sender != owner) revert OwnableUnauthorizedAccount(msg.sender);
        _;
    }

    constructor(address first) {
        _hand(first);
    }

    function transferOwnership(address newOwner) external onlyOwner {
        if (newOwner == address(0)) revert OwnableInvalidOwner(newOwner);
        _hand(newOwner);
    }

    function renounceOwnership() external onlyOwner {
        _hand(address(0));
    }

    function _hand(address to) private {
        emit OwnershipTransferred(owner, to);
        owner = to;
    }
}
