// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

/// Who has which role, with the ABI of OpenZeppelin's AccessControl.
contract Manager {
    bytes32 public constant DEFAULT_ADMIN_ROLE = 0x00;
    bytes32 public constant CONTROLLER = keccak256("CONTROLLER");
    bytes32 public constant JUDGE = keccak256("JUDGE");
    bytes32 public constant PROVIDER = keccak256("PROVIDER");

    mapping(bytes32 role => mapping(address account => bool)) private _has;
    mapping(bytes32 role => bytes32) private _adminOf;
    mapping(bytes4 interfaceId => bool) private _supported;

    event RoleAdminChanged(
        bytes32 indexed role, bytes32 indexed previousAdminRole, bytes32 indexed newAdminRole
    );
    event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender);
    event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender);

    error AccessControlBadConfirmation();
    error AccessControlUnauthorizedAccount(address account, bytes32 neededRole);

    modifier onlyAdmin() {
        if (!_has[DEFAULT_ADMIN_ROLE][msg.sender]) {
            revert AccessControlUnauthorizedAccount(msg.sender, DEFAULT_ADMIN_ROLE);
        }
        _;
    }

    constructor() {
        _grant(DEFAULT_ADMIN_ROLE, msg.sender);
        _supported[0x7965db0b] = true; // AccessControl
        _supported[0x01ffc9a7] = true; // ERC-165
    }

    function hasRole(bytes32 role, address account) external view returns (bool) {
        return _has[role][account];
    }

    /// The role that gives and takes a role: the admin's, for all of them.
    function getRoleAdmin(bytes32 role) external view returns (bytes32) {
        return _adminOf[role];
    }

    function grantRole(bytes32 role, address account) external onlyAdmin {
        _grant(role, account);
    }

    function revokeRole(bytes32 role, address account) external onlyAdmin {
        _revoke(role, account);
    }

    function renounceRole(bytes32 role, address callerConfirmation) external {
        if (callerConfirmation != msg.sender) revert AccessControlBadConfirmation();
        _revoke(role, msg.sender);
    }

    function supportsInterface(bytes4 interfaceId) external view returns (bool) {
        return _supported[interfaceId];
    }

    function _grant(bytes32 role, address account) private {
        if (_has[role][account]) return;
        _has[role][account] = true;
        emit RoleGranted(role, account, msg.sender);
    }

    function _revoke(bytes32 role, address account) private {
        if (!_has[role][account]) return;
        _has[role][account] = false;
        emit RoleRevoked(role, account, msg.sender);
    }
}
