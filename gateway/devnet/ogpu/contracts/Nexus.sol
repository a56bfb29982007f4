// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Manager} from "./Manager.sol";
import {Owned} from "./Owned.sol";
import {Response} from "./Response.sol";
import {Source} from "./Source.sol";
import {Task} from "./Task.sol";
import {Terminal} from "./Terminal.sol";
import {
    DeliveryMethod, ResponseParams, ResponseStatus, SourceParams, SourceStatus, TaskStatus
} from "./Types.sol";
import {Vault} from "./Vault.sol";

/// The registry of sources, and the one voice: every event of a task's life comes from here.
contract Nexus is Owned {
    Manager public manager;
    Terminal public terminal;
    Vault public vault;
    address[] public sources;
    address[] public clients;
    mapping(address source => uint256) public sourceId; // from 1; 0 is none
    mapping(address client => address[]) public sourcesOf;
    mapping(address client => uint256) public activeSourceCountOf;
    /// Not in their ABI: whether the client must confirm the first response itself (their documents disagree).
    bool public clientConfirms;

    event Attempted(address task, address provider, uint256 suggestedPayment);
    event Registered(address provider, uint256 registrantId, address source, uint8 preferredEnvironment);
    event ResponseStatusChanged(address response, ResponseStatus status);
    event ResponseSubmitted(address response, address task);
    event SourcePublished(address source);
    event SourceStatusChanged(address source, SourceStatus status);
    event SourceUpdated(address source, SourceParams sourceParams);
    event TaskPublished(address task, address source);
    event TaskStatusChanged(address task, TaskStatus status);

    modifier onlyController() {
        require(checkController(msg.sender), "NotOwner");
        _;
    }

    constructor(address _manager, address _terminal, address _vault) Owned(msg.sender) {
        manager = Manager(_manager);
        terminal = Terminal(_terminal);
        vault = Vault(_vault);
    }

    function CONTROLLER() public view returns (bytes32) {
        return manager.CONTROLLER();
    }

    function PROVIDER() public view returns (bytes32) {
        return manager.PROVIDER();
    }

    function checkController(address account) public view returns (bool) {
        return manager.hasRole(CONTROLLER(), account);
    }

    function getActiveSourceCount(address client) external view returns (uint256) {
        return activeSourceCountOf[client];
    }

    function getSourceCount() external view returns (uint256) {
        return sources.length;
    }

    function getSourceId(address source) external view returns (uint256) {
        return sourceId[source];
    }

    function getSources(uint256 lower, uint256 upper) external view returns (address[] memory found) {
        found = new address[](upper - lower + 1);
        for (uint256 i = lower; i <= upper; i++) {
            found[i - lower] = sources[i];
        }
    }

    function publishSource(SourceParams calldata _sourceParams) external {
        require(_sourceParams.client == msg.sender, "NotOwner");
        require(vault.isEligible(msg.sender), "NotEligible");
        address source = address(new Source(_sourceParams));
        sources.push(source);
        sourceId[source] = sources.length;
        if (sourcesOf[msg.sender].length == 0) clients.push(msg.sender);
        sourcesOf[msg.sender].push(source);
        activeSourceCountOf[msg.sender]++;
        emit SourcePublished(source);
    }

    function updateSource(address source, SourceParams calldata _sourceParams) external {
        _requireClient(source);
        require(_sourceParams.client == msg.sender, "NotOwner");
        Source(source).setSourceParams(_sourceParams);
        emit SourceUpdated(source, _sourceParams);
    }

    function inactivateSource(address source) external {
        _requireClient(source);
        require(Source(source).getStatus() == SourceStatus.ACTIVE, "SourceInactive");
        activeSourceCountOf[msg.sender]--;
        _setSourceStatus(source, SourceStatus.INACTIVE);
    }

    function register(address source, address provider, uint8 preferredEnvironment) external {
        _requireSpeaker(provider);
        require(manager.hasRole(PROVIDER(), provider), "NotProvider");
        require(Source(source).getStatus() == SourceStatus.ACTIVE, "SourceInactive");
        uint256 needed = Source(source).getSourceParams().minAvailableLockup;
        require(vault.lockupOf(provider) >= needed, "InsufficientLockup");
        uint256 id = Source(source).register(provider, preferredEnvironment);
        emit Registered(provider, id, source, preferredEnvironment);
    }

    function unregister(address source, address provider) external {
        _requireSpeaker(provider);
        Source(source).unregister(provider);
    }

    /// Take a task on. Whoever comes too late succeeds as well: it marks the task EXPIRED and refunds it.
    function attempt(address task, address provider, uint256 suggestedPayment) external {
        _requireSpeaker(provider);
        TaskStatus status = Task(task).getStatus();
        require(_isOpen(status), "AlreadyFinalized");
        Source source = Source(Task(task).getSource());
        if (block.timestamp > Task(task).getExpiryTime()) {
            _setTaskStatus(task, TaskStatus.EXPIRED);
            vault.releasePayment(source.getClient(), task);
            return;
        }
        require(source.getRegistrantId(provider) != 0, "NotRegistered");
        Task(task).attempt(provider);
        emit Attempted(task, provider, suggestedPayment);
        if (status == TaskStatus.NEW) _setTaskStatus(task, TaskStatus.ATTEMPTED);
    }

    function submitResponse(ResponseParams calldata _responseParams) external {
        Task task = Task(_responseParams.task);
        require(msg.sender == _responseParams.provider, "NotProvider");
        require(_isOpen(task.getStatus()), "AlreadyFinalized");
        require(block.timestamp <= task.getExpiryTime(), "Expired");
        require(_responseParams.payment <= task.getPayment(), "InsufficientPayment");
        address response = address(new Response(_responseParams));
        task.submitResponse(response, msg.sender);
        emit ResponseSubmitted(response, address(task));
        if (task.getStatus() != TaskStatus.RESPONDED) _setTaskStatus(address(task), TaskStatus.RESPONDED);
        if (task.getDeliveryMethod() == DeliveryMethod.FIRST_RESPONSE && !clientConfirms) {
            _take(response, task);
        }
    }

    /// Take an answer: it is confirmed, its task is finalized, and the money goes to its provider.
    function takeResponse(address response) external onlyController {
        _take(response, Task(Response(response).getResponseParams().task));
    }

    function emitTaskPublished(address task, address source) external onlyController {
        emit TaskPublished(task, source);
    }

    function setTaskStatus(address task, TaskStatus status) external onlyController {
        _setTaskStatus(task, status);
    }

    function setResponseStatus(address response, ResponseStatus status) external onlyController {
        _setResponseStatus(response, status);
    }

    function setSourceStatus(address source, SourceStatus status) external onlyOwner {
        _setSourceStatus(source, status);
    }

    function setManager(address _manager) external onlyOwner {
        manager = Manager(_manager);
    }

    function setTerminal(address _terminal) external onlyOwner {
        terminal = Terminal(_terminal);
    }

    function setVault(address _vault) external onlyOwner {
        vault = Vault(_vault);
    }

    function setClientConfirms(bool value) external onlyOwner {
        clientConfirms = value;
    }

    /// FIRST_RESPONSE pays the whole price, MANUAL_CONFIRMATION what the answer asks for.
    function _take(address response, Task task) private {
        ResponseParams memory answer = Response(response).getResponseParams();
        bool whole = task.getDeliveryMethod() == DeliveryMethod.FIRST_RESPONSE;
        uint256 amount = whole ? task.getPayment() : answer.payment;
        Response(response).confirm();
        _setResponseStatus(response, ResponseStatus.CONFIRMED);
        task.setWinner(answer.provider);
        _setTaskStatus(address(task), TaskStatus.FINALIZED);
        vault.processPayment(Source(task.getSource()).getClient(), answer.provider, address(task), amount);
    }

    function _setTaskStatus(address task, TaskStatus status) private {
        Task(task).setStatus(status);
        emit TaskStatusChanged(task, status);
    }

    function _setResponseStatus(address response, ResponseStatus status) private {
        Response(response).setStatus(status);
        emit ResponseStatusChanged(response, status);
    }

    function _setSourceStatus(address source, SourceStatus status) private {
        Source(source).setStatus(status);
        emit SourceStatusChanged(source, status);
    }

    function _requireClient(address source) private view {
        require(Source(source).getClient() == msg.sender, "NotOwner");
    }

    /// The provider itself, its master, or an agent of that.
    function _requireSpeaker(address provider) private view {
        address master = terminal.masterOf(provider);
        bool may = msg.sender == provider || msg.sender == master || terminal.getIsAgentOf(master, msg.sender);
        require(may, "NotProvider");
    }

    function _isOpen(TaskStatus status) private pure returns (bool) {
        return status == TaskStatus.NEW || status == TaskStatus.ATTEMPTED || status == TaskStatus.RESPONDED;
    }
}
