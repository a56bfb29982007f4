// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {Owned} from "./Owned.sol";
import {ResponseParams, ResponseStatus} from "./Types.sol";

/// One provider's answer to a task. The Nexus makes it and owns it.
contract Response is Owned {
    ResponseParams public responseParams;
    ResponseStatus public status;
    bool public confirmedFinal;
    uint256 public responseTimestamp;

    constructor(ResponseParams memory _responseParams) payable Owned(msg.sender) {
        responseParams = _responseParams;
        responseTimestamp = block.timestamp;
    }

    function getResponseParams() external view returns (ResponseParams memory) {
        return responseParams;
    }

    function getStatus() external view returns (ResponseStatus) {
        return status;
    }

    function setStatus(ResponseStatus _status) external onlyOwner {
        status = _status;
    }

    function confirm() external onlyOwner {
        confirmedFinal = true;
    }
}
