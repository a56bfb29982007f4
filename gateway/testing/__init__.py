"""What tests of the gateway and of adapters stand on.

pytest is needed for the conformance suites alone, which are therefore loaded when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.testing.adapter import FakeAdapter, FakeConfig, FakeTarget
from gateway.testing.backend import FakeBackend, Fault
from gateway.testing.case import ConformanceCase, Sample
from gateway.testing.clock import FakeClock

if TYPE_CHECKING:
    from gateway.testing.conformance import AdapterConformance
    from gateway.testing.store import StoreConformance

__all__ = [
    "AdapterConformance",
    "ConformanceCase",
    "FakeAdapter",
    "FakeBackend",
    "FakeClock",
    "FakeConfig",
    "FakeTarget",
    "Fault",
    "Sample",
    "StoreConformance",
]


def __getattr__(name: str) -> Any:
    if name == "AdapterConformance":
        from gateway.testing.conformance import AdapterConformance

        return AdapterConformance
    if name == "StoreConformance":
        from gateway.testing.store import StoreConformance

        return StoreConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
