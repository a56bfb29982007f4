"""Makes the gateway and the service from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.client import AsyncGateway
from gateway.config import Config, make_store_url
from gateway.server.keys import KeyBook
from gateway.server.observing import get_observer, make_observing
from gateway.server.service import Service
from gateway.store import make_store

if TYPE_CHECKING:
    from gateway.clock import Clock


def make_service(config: Config, clock: Clock) -> Service:
    """Make what the server's handlers work with. Raises ConfigError."""
    url = make_store_url(config)
    observing = make_observing(config)
    gateway = AsyncGateway.from_settings(config, store=make_store(url), clock=clock)
    gateway.hosting.observe(get_observer(observing))
    service = Service(gateway, config.server, clock, KeyBook(clock, workers=config.server.workers))
    service.observing = observing
    service.make_store = lambda: gateway.store if url == "memory:" else make_store(url)
    return service
