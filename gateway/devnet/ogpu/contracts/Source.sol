// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Owned} from "./Owned.sol";
import {SourceParams, SourceStatus} from "./Types.sol";

interface IController {
    function checkController(address account) external view returns (bool);
}

/// What a client offers to have run. The Nexus makes it and owns it; the client changes it through the Nexus.
contract Source is Owned {
    address public nexus;
    SourceStatus public status;
    SourceParams public sourceParams;
    address[] public tasks;
    address[] public registrants; // who leaves, leaves a hole
    mapping(address provider => uint256) public registrantId; // from 1; 0 is nobody
    mapping(address provider => uint8) public preferredEnvironmentOf;

    constructor(SourceParams memory _sourceParams) payable Owned(msg.sender) {
        nexus = msg.sender;
        sourceParams = _sourceParams;
    }

    function getClient() external view returns (address) {
        return sourceParams.client;
    }

    function getStatus() external view returns (SourceStatus) {
        return status;
    }

    function getSourceParams() external view returns (SourceParams memory) {
        return sourceParams;
    }

    function getTaskCount() external view returns (uint256) {
        return tasks.length;
    }

    function getTasks(uint256 lower, uint256 upper) external view returns (address[] memory) {
        return _slice(tasks, lower, upper);
    }

    function getRegistrantCount() external view returns (uint256) {
        return registrants.length;
    }

    function getRegistrantId(address provider) external view returns (uint256) {
        return registrantId[provider];
    }

    function getRegistrants(uint256 lower, uint256 upper) external view returns (address[] memory) {
        return _slice(registrants, lower, upper);
    }

    function publishTask(address task) external {
        require(IController(nexus).checkController(msg.sender), "NotOwner");
        tasks.push(task);
    }

    function register(address provider, uint8 preferredEnvironment) external onlyOwner returns (uint256) {
        require(registrantId[provider] == 0, "AlreadyRegistered");
        registrants.push(provider);
        registrantId[provider] = registrants.length;
        preferredEnvironmentOf[provider] = preferredEnvironment;
        return registrants.length;
    }

    function unregister(address provider) external onlyOwner {
        require(registrantId[provider] != 0, "NotRegistered");
        delete registrants[registrantId[provider] - 1];
        delete registrantId[provider];
        delete preferredEnvironmentOf[provider];
    }

    function setSourceParams(SourceParams calldata _sourceParams) external onlyOwner {
        sourceParams = _sourceParams;
    }

    function setStatus(SourceStatus _status) external onlyOwner {
        status = _status;
    }

    /// Both bounds belong to the range. The result is indexed as the list is: any `lower` above 0 panics.
    function _slice(address[] storage list, uint256 lower, uint256 upper)
        private
        view
        returns (address[] memory found)
    {
        found = new address[](upper - lower + 1);
        for (uint256 i = lower; i <= upper; i++) {
            found[i] = list[i];
        }
    }
}
