"""inference.sh and APIs that speak like it."""

from __future__ import annotations

from gateway_inferencesh.adapter import InferenceshAdapter
from gateway_inferencesh.config import InferenceshConfig, InferenceshTarget
from gateway_inferencesh.errors import (
    InsufficientScope,
    KeyRefused,
    PaymentRequired,
    RequirementsNotMet,
    SessionEnded,
    SessionError,
    SessionExpired,
    SessionMismatch,
    SessionNotFound,
    WorkerLeased,
)
from gateway_inferencesh.sessions import Session
from gateway_inferencesh.wire import Missing

__all__ = [
    "InferenceshAdapter",
    "InferenceshConfig",
    "InferenceshTarget",
    "InsufficientScope",
    "KeyRefused",
    "Missing",
    "PaymentRequired",
    "RequirementsNotMet",
    "Session",
    "SessionEnded",
    "SessionError",
    "SessionExpired",
    "SessionMismatch",
    "SessionNotFound",
    "WorkerLeased",
]
