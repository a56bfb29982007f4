// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Manager} from "./Manager.sol";
import {Owned} from "./Owned.sol";
import {Vault} from "./Vault.sol";

/// Who belongs to whom: a provider to its master, an agent to a client or a master.
contract Terminal is Owned {
    Manager public manager;
    Vault public vault;
    address public defaultAgent; // in no ABI of theirs: there it is the scheduler that everybody knows

    mapping(address provider => address master) public masterOf;
    mapping(address master => address provider) public providerOf;
    mapping(address account => bool) public isMaster;
    mapping(address account => bool) public isProvider;
    mapping(address principal => mapping(address agent => bool)) public isAgentOf;
    mapping(address account => bool) public defaultAgentDisabled;
    mapping(address provider => string) public baseDataOf;
    mapping(address provider => string) public liveDataOf;
    mapping(address provider => address master) private _announcedBy;

    event AgentSet(address account, address agent, bool value);
    event BaseDataUpdated(address provider);
    event DefaultAgentDisabled(address master, bool value);
    event LiveDataUpdated(address provider);
    event MasterAnnounced(address provider, address master);
    event ProviderAnnounced(address provider, address master);
    event ProviderRemoved(address provider);
    event RemoveContainer(address provider, address source);

    constructor(address _manager, address _vault) Owned(msg.sender) {
        manager = Manager(_manager);
        vault = Vault(_vault);
    }

    function PROVIDER() public view returns (bytes32) {
        return manager.PROVIDER();
    }

    function getMasterOf(address provider) external view returns (address) {
        return masterOf[provider];
    }

    function getIsMaster(address master) external view returns (bool) {
        return isMaster[master];
    }

    /// An agent that was set, or the default one unless it was refused.
    function getIsAgentOf(address master, address agent) external view returns (bool) {
        bool byDefault = agent != address(0) && agent == defaultAgent && !defaultAgentDisabled[master];
        return isAgentOf[master][agent] || byDefault;
    }

    /// The first half of the pairing; the money becomes the provider's lockup.
    function announceProvider(address provider, uint256 amount) external payable {
        require(msg.value == amount, "InsufficientPayment");
        isMaster[msg.sender] = true;
        _announcedBy[provider] = msg.sender;
        if (amount > 0) vault.deposit{value: amount}(provider);
        emit ProviderAnnounced(provider, msg.sender);
    }

    /// The second half: only now is the sender a provider.
    function announceMaster(address master) external {
        require(_announcedBy[msg.sender] == master && isMaster[master], "NotMaster");
        masterOf[msg.sender] = master;
        providerOf[master] = msg.sender;
        isProvider[msg.sender] = true;
        manager.grantRole(PROVIDER(), msg.sender);
        emit MasterAnnounced(msg.sender, master);
    }

    function removeProvider(address provider) external {
        require(masterOf[provider] == msg.sender, "NotMaster");
        delete masterOf[provider];
        delete _announcedBy[provider];
        isProvider[provider] = false;
        if (providerOf[msg.sender] == provider) delete providerOf[msg.sender];
        manager.revokeRole(PROVIDER(), provider);
        emit ProviderRemoved(provider);
    }

    function removeContainer(address provider, address source) external {
        require(masterOf[provider] == msg.sender, "NotMaster");
        emit RemoveContainer(provider, source);
    }

    /// For clients and masters; nobody else may let others sign for them.
    function setAgent(address agent, bool value) external {
        require(!isProvider[msg.sender] || isMaster[msg.sender], "NotMaster");
        isAgentOf[msg.sender][agent] = value;
        emit AgentSet(msg.sender, agent, value);
    }

    function setDefaultAgentDisabled(bool value) external {
        defaultAgentDisabled[msg.sender] = value;
        emit DefaultAgentDisabled(msg.sender, value);
    }

    function setBaseData(string calldata _baseData) external {
        require(isProvider[msg.sender], "NotProvider");
        baseDataOf[msg.sender] = _baseData;
        emit BaseDataUpdated(msg.sender);
    }

    function setLiveData(string calldata _liveData) external {
        require(isProvider[msg.sender], "NotProvider");
        liveDataOf[msg.sender] = _liveData;
        emit LiveDataUpdated(msg.sender);
    }

    function setManager(address _manager) external onlyOwner {
        manager = Manager(_manager);
    }

    function setVault(address _vault) external onlyOwner {
        vault = Vault(_vault);
    }

    function setDefaultAgent(address agent) external onlyOwner {
        defaultAgent = agent;
    }
}
