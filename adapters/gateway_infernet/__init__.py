"""Infernet nodes (Ritual): jobs, chains of containers, streams and delegated subscriptions over REST."""

from __future__ import annotations

from gateway_infernet.adapter import InfernetAdapter
from gateway_infernet.config import InfernetConfig, InfernetTarget

__all__ = ["InfernetAdapter", "InfernetConfig", "InfernetTarget"]
