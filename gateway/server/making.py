"""Makes the gateway and the service from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.client import AsyncGateway
from gateway.config import Config, make_store_url
from gateway.server.keys import KeyBook
from gateway.server.observing import get_observer, make_observing
from gateway.server.service import Service
from gateway.store import make_store
from gateway.store.doors import Doors

if TYPE_CHECKING:
    from gateway.clock import Clock


def make_service(config: Config, clock: Clock) -> Service:
    """Make what the server's handlers work with. Raises ConfigError."""
    observing = make_observing(config)
    doors = Doors(make_store(make_store_url(config)))
    gateway = AsyncGateway.from_settings(config, store=doors.make(), clock=clock)
    gateway.hosting.observe(get_observer(observing))
    service = Service(gateway, config.server, clock, KeyBook(clock, workers=config.server.workers))
    service.observing = observing
    service.make_store = doors.make
    return service
