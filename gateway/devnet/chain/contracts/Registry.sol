// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

/// Where the contracts of one Infernet deployment are. The local chain has only the two that are followed.
contract Registry {
    address public immutable COORDINATOR;
    address public immutable INBOX;

    /// The addresses are those that the deployer's next transactions will create.
    constructor(address coordinator, address inbox) {
        COORDINATOR = coordinator;
        INBOX = inbox;
    }
}
