"""Quotes of all backends, with a deadline and a short memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from gateway.adapter import Adapter, Capabilities, Feature
from gateway.catalogue import Target
from gateway.clock import Clock
from gateway.engine.health import Health
from gateway.engine.seam import ask, check_quote
from gateway.errors import BackendError, GatewayError, Misbehaved, Unavailable
from gateway.observe.observer import NOBODY, Observer, calling
from gateway.policy.health import BreakerState, Operation
from gateway.task import Quote, Task

QUOTE_SECONDS = 5.0
KEPT_SECONDS = 30.0
_MOST_KEPT = 1_000


class Quotes:
    """Asks what tasks would cost."""

    def __init__(self, adapters: Mapping[str, Adapter[Any]], clock: Clock, health: Health) -> None:
        self._adapters = adapters
        self._clock = clock
        self._health = health
        self.observer: Observer = NOBODY
        self._kept: OrderedDict[bytes, tuple[float, Quote]] = OrderedDict()

    async def fetch(
        self, target: Target, task: Task, capabilities: Capabilities
    ) -> tuple[Quote | None, str | None]:
        """Return what a task would cost at one target, or why that can't be said.

        The configured price comes first, then the backend's own word, at most half a minute old.
        """
        if target.cost is not None:
            return Quote(expected=target.cost, upper=target.cost, confidence="configured"), None
        if Feature.QUOTE not in capabilities.features:
            known = Quote(expected=None, upper=None, confidence="free" if capabilities.free else "unknown")
            return known, None
        try:
            task = target.reshape_task(task)
        except GatewayError as error:
            return None, str(error)
        key = _make_key(target, task)
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() < kept[0]:
            return kept[1], None
        return await self._ask(target, task, key)

    async def _ask(self, target: Target, task: Task, key: bytes) -> tuple[Quote | None, str | None]:
        name = target.backend
        if self._health.get_state(name, Operation.QUOTE) is BreakerState.OPEN:
            wait = self._health.get_wait(name, Operation.QUOTE)
            return None, f"it gave no quotes lately; it is asked again in {wait:.1f} s"
        self._health.begin(name, Operation.QUOTE)
        failure: BackendError | None = None
        try:
            with calling(self.observer, name, Operation.QUOTE):
                async with asyncio.timeout(QUOTE_SECONDS):
                    quote = await ask(Quote, self._adapters[name].quote, task, target.words)
                    check_quote(quote)
        except TimeoutError:
            failure = Unavailable(f"no quote within {QUOTE_SECONDS:g} s", backend=name)
            return None, failure.message
        except BackendError as error:
            failure = error
            return None, error.message
        except GatewayError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001  a stranger's adapter may raise anything: it gives no quote
            failure = Misbehaved(
                f"its adapter broke while quoting: {type(error).__name__}: {error}", backend=name
            )
            return None, failure.message
        finally:
            self._health.note(name, Operation.QUOTE, failure)
        self._kept[key] = (self._clock.monotonic() + KEPT_SECONDS, quote)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return quote, None


def _make_key(target: Target, task: Task) -> bytes:
    from pydantic_core import to_json

    asked = to_json([target.backend, target.words, task.input], inf_nan_mode="constants")
    return hashlib.sha256(asked).digest()
