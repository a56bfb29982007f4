"""A configuration in the place of another, while the runs of the earlier one go on under it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.client import AsyncGateway
from gateway.config import Config, make_store_url
from gateway.errors import ConfigError, GatewayError
from gateway.observe.making import make_observer
from gateway.server.observing import Observing, get_observer, get_otel

if TYPE_CHECKING:
    from gateway.observe.observer import Observer
    from gateway.server.service import Service

_log = logging.getLogger("gateway.server")
_LOOK_SECONDS = 0.5
_ONLY_AT_START = ("host", "port", "workers", "shutdown_timeout", "metrics", "overhead_header")


class Reloader:
    """Takes changed configurations in; one that is wrong changes nothing.

    Attributes:
        config: the one in force.
    """

    def __init__(self, service: Service, config: Config, load: Callable[[], Config]) -> None:
        """Make it; `load` reads the configuration anew, and raises ConfigError."""
        self._service, self._load = service, load
        self.config = config
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> bool:
        """Read the configuration and put it in force; says whether it was."""
        async with self._one_at_a_time:
            gateway: AsyncGateway | None = None
            try:
                config = await asyncio.to_thread(self._load)
                self._check(config)
                gateway = AsyncGateway.from_settings(
                    config, store=self._service.make_store(), clock=self._service.clock
                )
                await gateway.__aenter__()
                observing = self._make_observing(config)
            except GatewayError as error:
                _log.error("the configuration is not taken, the last good one stays: %s", error)
                if gateway is not None:
                    await gateway.aclose()
                return False
            gateway.hosting.observe(get_observer(observing))
            await self._swap(config, gateway, observing)
            _log.warning("the configuration is taken; runs that are under way keep theirs")
            return True

    def _check(self, config: Config) -> None:
        if make_store_url(config) != make_store_url(self.config):
            raise ConfigError("gateway.store can't change while the server runs: restart it")
        if config.gateway.currency != self.config.gateway.currency:
            raise ConfigError("gateway.currency can't change while the server runs: restart it")
        for name in _ONLY_AT_START:
            if getattr(config.server, name) != getattr(self.config.server, name):
                _log.warning("server.%s counts from the next start on", name)
        if config.observability.logs != self.config.observability.logs:
            _log.warning("observability.logs counts from the next start on")

    def _make_observing(self, config: Config) -> Observing | None:
        """Return who watches from now on; what has been counted stays."""
        observing = self._service.observing
        if config.observability == self.config.observability:
            return observing
        return (observing or Observing()).change(make_observer(config.observability))

    async def _swap(self, config: Config, gateway: AsyncGateway, observing: Observing | None) -> None:
        service, old, otel = self._service, self._service.gateway, get_otel(self._service.observing)
        service.gateway, service.settings, self.config = gateway, config.server, config
        service.observing = observing
        service.retired.append(old)
        await old.hosting.stop_claiming()  # what others left behind, and what is forgotten, is the new one's
        service.begin(self._close_when_idle(old))
        if otel is not None and otel is not get_otel(observing):
            service.begin(self._close_when_unused(otel))

    async def _close_when_idle(self, old: AsyncGateway) -> None:
        """Close a gateway once its runs have ended, and the requests that began with it are answered."""
        while old.hosting.count_runs() or old.hosting.callers:  # noqa: ASYNC110  nobody tells of the last
            await asyncio.sleep(_LOOK_SECONDS)
        self._service.retired.remove(old)
        await old.aclose()

    async def _close_when_unused(self, otel: Observer) -> None:
        while self._service.retired:  # noqa: ASYNC110  as above
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.to_thread(otel.close)
