"""What tests of the gateway and of adapters stand on. Needs no pytest to be imported."""

from __future__ import annotations

from gateway.testing.clock import FakeClock

__all__ = ["FakeClock"]
