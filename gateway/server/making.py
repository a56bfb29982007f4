"""Makes the gateway and the service from a configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.client import AsyncGateway
from gateway.config import Config, make_store_url
from gateway.observe.observer import NOBODY, Observer
from gateway.registry import make_adapters
from gateway.server.keys import KeyBook
from gateway.server.observing import get_observer, make_observing
from gateway.server.service import Service
from gateway.spending import make_accounting, make_capacities
from gateway.store import make_store

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.store.protocol import Store


def make_gateway(
    config: Config, store: Store, clock: Clock, keys: KeyBook, observer: Observer = NOBODY
) -> AsyncGateway:
    """Make a gateway whose budgets include those of the API keys. Raises ConfigError."""
    gateway = AsyncGateway(
        make_adapters(config.backends, clock).values(),
        config.models,
        store=store,
        limits=config.gateway.make_limits(),
        accounting=replace(make_accounting(config), get_more=lambda: keys.budgets),
        capacities=make_capacities(config),
        clock=clock,
    )
    gateway._engine.observe(observer)  # noqa: SLF001  what the server sees is no part of the library's face
    return gateway


def make_service(config: Config, clock: Clock) -> Service:
    """Make what the server's handlers work with. Raises ConfigError."""
    url = make_store_url(config)
    keys = KeyBook(clock, config.gateway.currency, workers=config.server.workers)
    observing = make_observing(config)
    gateway = make_gateway(config, make_store(url), clock, keys, get_observer(observing))
    service = Service(gateway, config.server, clock, keys)
    service.observing = observing
    service.make_store = lambda: gateway.store if url == "memory:" else make_store(url)
    return service
