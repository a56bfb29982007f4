"""What tests of the gateway and of adapters stand on.

pytest is needed for AdapterConformance alone, which is therefore loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.testing.adapter import FakeAdapter, FakeConfig, FakeTarget
from gateway.testing.backend import FakeBackend, Fault
from gateway.testing.case import ConformanceCase, Sample
from gateway.testing.clock import FakeClock

if TYPE_CHECKING:
    from gateway.testing.conformance import AdapterConformance

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
]


def __getattr__(name: str) -> Any:
    if name == "AdapterConformance":
        from gateway.testing.conformance import AdapterConformance

        return AdapterConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
