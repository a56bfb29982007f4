"""OGPU (OpenGPU Network): tasks published, followed, confirmed and collected on its chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway_ogpu.adapter import OgpuAdapter
    from gateway_ogpu.client import OgpuClient
    from gateway_ogpu.config import OgpuConfig, OgpuTarget

__all__ = ["OgpuAdapter", "OgpuClient", "OgpuConfig", "OgpuTarget"]

_PLACES = {
    "OgpuAdapter": "gateway_ogpu.adapter",
    "OgpuClient": "gateway_ogpu.client",
    "OgpuConfig": "gateway_ogpu.config",
    "OgpuTarget": "gateway_ogpu.config",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
