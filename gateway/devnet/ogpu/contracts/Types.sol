// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

// The words of OGPU's ABI. Enums are uint8 on the wire.

enum SourceStatus {
    ACTIVE,
    INACTIVE
}

enum TaskStatus {
    NEW,
    ATTEMPTED,
    RESPONDED,
    CANCELED,
    EXPIRED,
    FINALIZED
}

enum ResponseStatus {
    SUBMITTED,
    CONFIRMED
}

enum DeliveryMethod {
    MANUAL_CONFIRMATION,
    FIRST_RESPONSE
}

struct SourceParams {
    address client;
    string imageMetadataUrl;
    uint8 imageEnvironments;
    uint256 minPayment;
    uint256 minAvailableLockup;
    uint256 maxExpiryDuration;
    bool privacyEnabled;
    string optionalParamsUrl;
    DeliveryMethod deliveryMethod;
    uint256 lastUpdateTime;
}

struct TaskParams {
    address source;
    string config;
    uint256 expiryTime;
    uint256 payment;
}

struct ResponseParams {
    address task;
    address provider;
    string data;
    uint256 payment;
}
