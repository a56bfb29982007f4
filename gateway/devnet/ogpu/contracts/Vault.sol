// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Manager} from "./Manager.sol";

interface ISourceCount {
    function getActiveSourceCount(address client) external view returns (uint256);
}

/// All money: free balances, lockups, and what is frozen for a task. Of freezing, paying and releasing it says
/// nothing in events, as the real one does not.
contract Vault {
    uint256 public MIN_LOCKUP_PER_SOURCE;
    uint256 public UNBONDING_PERIOD = 7 days;
    uint256 public sanctionedAmount;
    Manager public manager;
    address public nexus;
    address public terminal;

    mapping(address account => uint256) public balanceOf;
    mapping(address account => uint256) public lockupOf;
    mapping(address account => uint256) public unbondingOf;
    mapping(address account => uint256) public unbondingTimestamp;
    mapping(address account => uint256) public totalEarningsOf;
    mapping(address account => uint256) public sanctionOf;
    mapping(address account => bool) public isWhitelisted;
    mapping(address task => uint256) public frozenPayment;

    event Claimed(address account, uint256 amount);
    event Deposited(address account, uint256 amount);
    event Locked(address account, uint256 amount);
    event Sanctioned(address account, uint256 amount);
    event Unbonded(address account, uint256 amount);
    event UnbondingCanceled(address account, uint256 amount);
    event Waived(address account, uint256 amount);
    event Withdrawn(address account, uint256 amount);

    modifier only(bytes32 role, string memory refusal) {
        require(manager.hasRole(role, msg.sender), refusal);
        _;
    }

    constructor(address _manager, address _nexus, address _terminal) {
        manager = Manager(_manager);
        nexus = _nexus;
        terminal = _terminal;
    }

    function getBalanceOf(address account) external view returns (uint256) {
        return balanceOf[account];
    }

    function getLockupOf(address account) external view returns (uint256) {
        return lockupOf[account];
    }

    /// Whether an account may publish one more source.
    function isEligible(address account) external view returns (bool) {
        uint256 needed = MIN_LOCKUP_PER_SOURCE * (ISourceCount(nexus).getActiveSourceCount(account) + 1);
        return isWhitelisted[account] || lockupOf[account] >= needed;
    }

    /// Credit the balance; what comes from the Terminal is a provider's lockup.
    function deposit(address account) external payable {
        emit Deposited(account, msg.value);
        if (msg.sender == terminal) {
            lockupOf[account] += msg.value;
            emit Locked(account, msg.value);
        } else {
            balanceOf[account] += msg.value;
        }
    }

    function withdraw(uint256 amount) external {
        _take(balanceOf, msg.sender, amount, "InsufficientBalance");
        emit Withdrawn(msg.sender, amount);
        _send(msg.sender, amount);
    }

    function lock(uint256 amount) external {
        _take(balanceOf, msg.sender, amount, "InsufficientBalance");
        lockupOf[msg.sender] += amount;
        emit Locked(msg.sender, amount);
    }

    function unbond(uint256 amount) external {
        _take(lockupOf, msg.sender, amount, "InsufficientLockup");
        unbondingOf[msg.sender] += amount;
        unbondingTimestamp[msg.sender] = block.timestamp;
        emit Unbonded(msg.sender, amount);
    }

    function cancelUnbonding() external {
        uint256 amount = unbondingOf[msg.sender];
        unbondingOf[msg.sender] = 0;
        lockupOf[msg.sender] += amount;
        emit UnbondingCanceled(msg.sender, amount);
    }

    function claim() external {
        require(block.timestamp >= unbondingTimestamp[msg.sender] + UNBONDING_PERIOD, "UnbondingNotElapsed");
        uint256 amount = unbondingOf[msg.sender];
        unbondingOf[msg.sender] = 0;
        balanceOf[msg.sender] += amount;
        emit Claimed(msg.sender, amount);
    }

    function freezePayment(address client, address task, uint256 amount)
        external
        only(manager.CONTROLLER(), "NotOwner")
    {
        _take(balanceOf, client, amount, "InsufficientBalance");
        frozenPayment[task] += amount;
    }

    /// Pay the provider what it asked for; the rest goes back to the client.
    function processPayment(address client, address provider, address task, uint256 amount)
        external
        only(manager.CONTROLLER(), "NotOwner")
    {
        uint256 rest = frozenPayment[task] - amount;
        frozenPayment[task] = 0;
        balanceOf[provider] += amount;
        totalEarningsOf[provider] += amount;
        balanceOf[client] += rest;
    }

    function releasePayment(address client, address task) external only(manager.CONTROLLER(), "NotOwner") {
        _release(client, task);
    }

    function forceReleasePayment(address client, address task)
        external
        only(manager.DEFAULT_ADMIN_ROLE(), "NotOwner")
    {
        _release(client, task);
    }

    function sanction(address account, uint256 amount) external only(manager.JUDGE(), "NotOwner") {
        _take(lockupOf, account, amount, "InsufficientLockup");
        sanctionOf[account] += amount;
        sanctionedAmount += amount;
        emit Sanctioned(account, amount);
    }

    function waive(address account, uint256 amount) external only(manager.JUDGE(), "NotOwner") {
        _take(sanctionOf, account, amount, "InsufficientBalance");
        sanctionedAmount -= amount;
        lockupOf[account] += amount;
        emit Waived(account, amount);
    }

    function withdrawSanctionOf(address account) external only(manager.DEFAULT_ADMIN_ROLE(), "NotOwner") {
        uint256 amount = sanctionOf[account];
        sanctionOf[account] = 0;
        sanctionedAmount -= amount;
        _send(msg.sender, amount);
    }

    function emergencyExit(address account) external only(manager.DEFAULT_ADMIN_ROLE(), "NotOwner") {
        uint256 amount = balanceOf[account] + lockupOf[account] + unbondingOf[account];
        balanceOf[account] = 0;
        lockupOf[account] = 0;
        unbondingOf[account] = 0;
        _send(account, amount);
    }

    function setMaxUnbondingPeriod(uint256 period) external only(manager.DEFAULT_ADMIN_ROLE(), "NotOwner") {
        UNBONDING_PERIOD = period;
    }

    function setMinLockupPerSource(uint256 amount) external only(manager.DEFAULT_ADMIN_ROLE(), "NotOwner") {
        MIN_LOCKUP_PER_SOURCE = amount;
    }

    function setTerminal(address _terminal) external only(manager.DEFAULT_ADMIN_ROLE(), "NotOwner") {
        terminal = _terminal;
    }

    function setWhitelist(address account, bool value) external only(manager.DEFAULT_ADMIN_ROLE(), "NotOwner") {
        isWhitelisted[account] = value;
    }

    function _release(address client, address task) private {
        balanceOf[client] += frozenPayment[task];
        frozenPayment[task] = 0;
    }

    function _take(
        mapping(address => uint256) storage from,
        address account,
        uint256 amount,
        string memory refusal
    ) private {
        require(from[account] >= amount, refusal);
        from[account] -= amount;
    }

    function _send(address to, uint256 amount) private {
        (bool sent,) = to.call{value: amount}("");
        require(sent, "TransferFailed");
    }
}
