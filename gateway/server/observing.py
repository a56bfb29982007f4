"""/metrics, the gateway's own time as a header, and callers' traces, if configured."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from gateway.observe.context import INCOMING
from gateway.observe.making import make_observer
from gateway.observe.metrics import LONG, Metrics
from gateway.observe.observer import NOBODY, Observer, Observers
from gateway.observe.registry import CONTENT_TYPE, Labels, Registry, write_gauge
from gateway.observe.stopwatch import OF_REQUEST, Stopwatch
from gateway.policy.health import BreakerState
from gateway.server.callers import KeyScope
from gateway.server.problems import NO_ROUTE, Refusal
from gateway.server.routes import Route, read_key
from gateway.server.wire import Answer, AsgiScope, Request, answer_bytes, find_header

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.server.service import Service

OWN_TIME = b"x-gateway-overhead-ms"
_LONGEST_TRACE = 255  # it is kept with the run; 55 characters today


class Counting:
    """The numbers of a server, since its start."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.engine = Metrics(self.registry)
        self._requests = self.registry.make_counter(
            "gateway_http_requests_total", "HTTP requests answered.", "face", "status"
        )
        self._request_seconds = self.registry.make_histogram(
            "gateway_http_request_seconds", "Until the head of the answer is ready.", LONG, "face"
        )

    def note_request(self, face: str, answer: Answer | None, seconds: float) -> None:
        """Count a request; None is for a caller that has gone away."""
        self._requests.get(face, "gone" if answer is None else str(answer.status)).add()
        self._request_seconds.get(face).observe(seconds)


class Observing:
    """What a server tells of itself.

    Attributes:
        observer: hears from the engine of each configuration.
        counting: the numbers, where metrics are wanted.
        otel: what tells OpenTelemetry, where that is wanted.
    """

    def __init__(
        self,
        *,
        counting: Counting | None = None,
        overhead_header: bool = False,
        otel: Observer | None = None,
    ) -> None:
        """Make it; `otel` is what tells OpenTelemetry, if anybody wants that."""
        self.counting, self.otel, self._tells_time = counting, otel, overhead_header
        engine = None if counting is None else counting.engine
        self.observer: Observer = Observers([one for one in (engine, otel) if one is not None])

    def change(self, otel: Observer | None) -> Observing:
        """Return the same with something else that tells OpenTelemetry, or nothing; the numbers go on."""
        return Observing(counting=self.counting, overhead_header=self._tells_time, otel=otel)

    async def answer(self, scope: AsgiScope, face: str, answering: Awaitable[Answer | None]) -> Answer | None:
        """Answer a request, seen: counted, timed and in its caller's trace."""
        began = perf_counter()
        with self._follow(scope) as watch:
            answer = await answering
        if self.counting is not None:
            self.counting.note_request(face, answer, perf_counter() - began)
        if answer is None or not self._tells_time:
            return answer
        own = (OWN_TIME, b"%.3f" % (watch.get_own_seconds() * 1000))
        return replace(answer, headers=(*answer.headers, own))

    @contextmanager
    def _follow(self, scope: AsgiScope) -> Iterator[Stopwatch]:
        watch = Stopwatch()
        of_request = OF_REQUEST.set(watch if self._tells_time else None)
        trace = find_header(scope, b"traceparent") if self.otel is not None else None
        incoming = INCOMING.set(trace if trace is not None and len(trace) <= _LONGEST_TRACE else None)
        try:
            yield watch
        finally:
            OF_REQUEST.reset(of_request)
            INCOMING.reset(incoming)

    async def write(self, service: Service) -> str:
        """Return the metrics as Prometheus reads them. Raises Refusal where they are not wanted."""
        if self.counting is None:
            raise _make_refusal()
        return self.counting.registry.write() + await _write_gauges(service)


async def _write_gauges(service: Service) -> str:
    """Return what is so right now, of the gateways of all configurations that are still at work."""
    gateways = [service.gateway, *service.retired]
    states: dict[Labels, float] = {}
    running: dict[Labels, float] = {}
    waiting: dict[Labels, float] = {}
    for gateway in gateways:
        for backend, health in (await gateway.health()).items():
            running[backend,] = running.get((backend,), 0) + health.running
            waiting[backend,] = waiting.get((backend,), 0) + health.waiting
            if gateway is service.gateway:
                for operation, found in health.breakers.items():
                    states |= {(backend, operation, state): state is found for state in BreakerState}
    at_work = sum(gateway.hosting.count_runs() for gateway in gateways)
    backend_only = ("backend",)
    return "".join(
        (
            write_gauge(
                "gateway_breaker_state",
                "1 for the state that a breaker is in.",
                ("backend", "operation", "state"),
                states.items(),
            ),
            write_gauge("gateway_attempts_in_flight", "Attempts there now.", backend_only, running.items()),
            write_gauge(
                "gateway_attempts_waiting", "Attempts that wait for room.", backend_only, waiting.items()
            ),
            write_gauge("gateway_runs_in_flight", "Runs that this process works on.", (), [((), at_work)]),
        )
    )


def make_observing(config: Config) -> Observing | None:
    """Return what a configuration asks for, or None. Raises ConfigError: something is not installed."""
    otel, settings = make_observer(config.observability), config.server
    if otel is None and settings.metrics == "off" and not settings.overhead_header:
        return None
    counting = None if settings.metrics == "off" else Counting()
    return Observing(counting=counting, overhead_header=settings.overhead_header, otel=otel)


def get_observer(observing: Observing | None) -> Observer:
    """Return whom the engine tells."""
    return NOBODY if observing is None else observing.observer


def get_otel(observing: Observing | None) -> Observer | None:
    """Return what tells OpenTelemetry."""
    return None if observing is None else observing.otel


async def show_metrics(request: Request) -> Answer:
    """Show the metrics to who may see them."""
    service = request.service
    if service.observing is None or service.settings.metrics == "off":
        raise _make_refusal()
    if service.settings.metrics == "admin":
        (await service.learning.find_caller(read_key(request.scope))).require(KeyScope.ADMIN)
    text = await service.observing.write(service)
    if service.siblings is not None:
        text = await service.siblings.add_metrics(text)
    return answer_bytes(text.encode(), CONTENT_TYPE)


def _make_refusal() -> Refusal:
    return Refusal(NO_ROUTE, "there are no metrics here; see server.metrics")


ROUTES = (Route("GET", "/metrics", show_metrics, None),)
