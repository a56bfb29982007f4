"""A local stand-in for api.inference.sh, faithful on the wire, with real answers.

Its behaviour was taken from the public SDKs (PyPI inferencesh 0.7.8 and 0.36.0, npm @inferencesh/sdk) and
from the public documentation.
"""

from __future__ import annotations

from gateway.devnet.inferencesh.account import RateLimit
from gateway.devnet.inferencesh.api import InferenceshApi

__all__ = ["InferenceshApi", "RateLimit"]
