"""What tests of the gateway and of adapters stand on. Needs no pytest to be imported."""

from __future__ import annotations

from gateway.testing.adapter import FakeAdapter, FakeConfig, FakeTarget
from gateway.testing.backend import FakeBackend, Fault
from gateway.testing.clock import FakeClock

__all__ = ["FakeAdapter", "FakeBackend", "FakeClock", "FakeConfig", "FakeTarget", "Fault"]
