// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Nexus} from "./Nexus.sol";
import {Owned} from "./Owned.sol";
import {Response} from "./Response.sol";
import {Source} from "./Source.sol";
import {Task} from "./Task.sol";
import {Terminal} from "./Terminal.sol";
import {ResponseStatus, SourceParams, SourceStatus, TaskParams, TaskStatus} from "./Types.sol";
import {Vault} from "./Vault.sol";

/// What a client says about its tasks. The Nexus tells the world about it.
contract Controller is Owned {
    Nexus public nexus;
    Terminal public terminal;
    Vault public vault;

    constructor(address _nexus, address _terminal, address _vault) Owned(msg.sender) {
        nexus = Nexus(_nexus);
        terminal = Terminal(_terminal);
        vault = Vault(_vault);
    }

    /// Put a task out; its price is frozen in the vault balance of the source's client.
    function publishTask(TaskParams calldata _taskParams) external {
        Source source = Source(_taskParams.source);
        SourceParams memory params = source.getSourceParams();
        require(_speaksFor(params.client), "NotOwner");
        require(source.getStatus() == SourceStatus.ACTIVE, "SourceInactive");
        require(_taskParams.payment >= params.minPayment, "InsufficientPayment");
        require(_taskParams.expiryTime > block.timestamp, "Expired");
        require(_taskParams.expiryTime < block.timestamp + params.maxExpiryDuration, "ExpiryTooLong");
        address task = address(new Task(_taskParams, params.deliveryMethod, address(nexus)));
        source.publishTask(task);
        vault.freezePayment(params.client, task, _taskParams.payment);
        nexus.emitTaskPublished(task, address(source));
    }

    /// Choose an answer. A task that has expired but was not marked so can still be paid.
    function confirmResponse(address response) external {
        Response answer = Response(response);
        Task task = Task(answer.getResponseParams().task);
        require(_speaksFor(_clientOf(task)), "NotOwner");
        require(answer.getStatus() == ResponseStatus.SUBMITTED, "AlreadyConfirmed");
        require(task.getStatus() == TaskStatus.RESPONDED, "AlreadyFinalized");
        nexus.takeResponse(response);
    }

    /// Take a task back, as long as nobody has attempted it.
    function cancelTask(address task) external {
        address client = _clientOf(Task(task));
        require(_speaksFor(client), "NotOwner");
        require(Task(task).getStatus() == TaskStatus.NEW, "AlreadyFinalized");
        nexus.setTaskStatus(task, TaskStatus.CANCELED);
        vault.releasePayment(client, task);
    }

    function setNexus(address _nexus) external onlyOwner {
        nexus = Nexus(_nexus);
    }

    function setTerminal(address _terminal) external onlyOwner {
        terminal = Terminal(_terminal);
    }

    function setVault(address _vault) external onlyOwner {
        vault = Vault(_vault);
    }

    function _clientOf(Task task) private view returns (address) {
        return Source(task.getSource()).getClient();
    }

    function _speaksFor(address client) private view returns (bool) {
        return msg.sender == client || terminal.isAgentOf(client, msg.sender);
    }
}
