"""A configuration in the place of another, while the runs of the earlier one go on under it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.config import Config, make_store_url
from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from gateway.client import AsyncGateway
    from gateway.server.service import Service

_log = logging.getLogger("gateway.server")
_LOOK_SECONDS = 0.5
_ONLY_AT_START = ("host", "port", "workers", "shutdown_timeout", "metrics", "overhead_header")


def works_on(gateway: AsyncGateway, run_id: str) -> bool:
    """Say whether a gateway of this process works on a run."""
    return gateway._engine.get_live(run_id) is not None  # noqa: SLF001  only its own server asks this


class Reloader:
    """Takes changed configurations in; one that is wrong changes nothing.

    Attributes:
        config: the one in force.
    """

    def __init__(
        self,
        service: Service,
        config: Config,
        load: Callable[[], Config],
        make: Callable[[Config], AsyncGateway],
    ) -> None:
        """Make it; `load` reads the configuration anew, `make` makes its gateway. Both raise ConfigError."""
        self._service, self._load, self._make = service, load, make
        self.config = config
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> bool:
        """Read the configuration and put it in force; says whether it was."""
        async with self._one_at_a_time:
            try:
                config = await asyncio.to_thread(self._load)
                self._check(config)
                gateway = self._make(config)
            except GatewayError as error:
                _log.error("the configuration is not taken, the last good one stays: %s", error)
                return False
            try:
                await gateway.__aenter__()
            except GatewayError as error:
                _log.error("the configuration is not taken, the last good one stays: %s", error)
                await gateway.aclose()
                return False
            self._swap(config, gateway)
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

    def _swap(self, config: Config, gateway: AsyncGateway) -> None:
        service, old = self._service, self._service.gateway
        service.gateway, service.settings, self.config = gateway, config.server, config
        service.retired.append(old)
        old._engine._keeper.claims = False  # noqa: SLF001  what others left behind is for the new one
        service.begin(self._close_when_idle(old))

    async def _close_when_idle(self, old: AsyncGateway) -> None:
        while old._engine._worker.live:  # noqa: ASYNC110, SLF001  nobody tells of the last run's end
            await asyncio.sleep(_LOOK_SECONDS)
        self._service.retired.remove(old)
        await old.aclose()
