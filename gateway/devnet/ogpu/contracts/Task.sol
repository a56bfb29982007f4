// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Owned} from "./Owned.sol";
import {DeliveryMethod, ResponseParams, TaskParams, TaskStatus} from "./Types.sol";

interface IResponse {
    function getResponseParams() external view returns (ResponseParams memory);
}

/// One thing to be run. The Controller makes it, the Nexus owns it.
contract Task is Owned {
    TaskStatus public status;
    DeliveryMethod public deliveryMethod;
    TaskParams public taskParams;
    address public winningProvider;
    address[] public attempters;
    uint256[] public attemptTimestamps;
    mapping(address provider => uint256) public attempterId; // from 1; 0 is nobody
    mapping(address provider => address response) public responseOf;
    mapping(bytes32 answer => bool) public isAlreadySubmitted;

    constructor(TaskParams memory _taskParams, DeliveryMethod _deliveryMethod, address nexus)
        payable
        Owned(nexus)
    {
        taskParams = _taskParams;
        deliveryMethod = _deliveryMethod;
    }

    function getSource() external view returns (address) {
        return taskParams.source;
    }

    function getStatus() external view returns (TaskStatus) {
        return status;
    }

    function getPayment() external view returns (uint256) {
        return taskParams.payment;
    }

    function getExpiryTime() external view returns (uint256) {
        return taskParams.expiryTime;
    }

    function getDeliveryMethod() external view returns (DeliveryMethod) {
        return deliveryMethod;
    }

    function getAttemptCount() external view returns (uint256) {
        return attempters.length;
    }

    function getAttempterId(address provider) external view returns (uint256) {
        return attempterId[provider];
    }

    // Both bounds belong to each of these ranges; beyond the list they panic.

    function getAttempters(uint256 lower, uint256 upper) external view returns (address[] memory found) {
        found = new address[](upper - lower + 1);
        for (uint256 i = lower; i <= upper; i++) {
            found[i - lower] = attempters[i];
        }
    }

    function getAttemptTimestamps(uint256 lower, uint256 upper) external view returns (uint256[] memory found) {
        found = new uint256[](upper - lower + 1);
        for (uint256 i = lower; i <= upper; i++) {
            found[i - lower] = attemptTimestamps[i];
        }
    }

    /// A slot for every attempter; zero is in those that have not answered.
    function getResponsesOf(uint256 lower, uint256 upper) external view returns (address[] memory found) {
        found = new address[](upper - lower + 1);
        for (uint256 i = lower; i <= upper; i++) {
            found[i - lower] = responseOf[attempters[i]];
        }
    }

    function attempt(address provider) external onlyOwner {
        require(attempterId[provider] == 0, "AlreadyAttempted");
        attempters.push(provider);
        attemptTimestamps.push(block.timestamp);
        attempterId[provider] = attempters.length;
    }

    function submitResponse(address response, address provider) external onlyOwner {
        bytes32 answer = keccak256(abi.encode(provider, IResponse(response).getResponseParams().data));
        require(attempterId[provider] != 0, "NotAttempted");
        require(responseOf[provider] == address(0) && !isAlreadySubmitted[answer], "AlreadySubmitted");
        isAlreadySubmitted[answer] = true;
        responseOf[provider] = response;
    }

    function setStatus(TaskStatus _status) external onlyOwner {
        status = _status;
    }

    /// Say whose answer was taken. Not in their ABI, which names only the getter.
    function setWinner(address provider) external onlyOwner {
        winningProvider = provider;
    }
}
