"""The tools, as plain functions over a gateway."""

from __future__ import annotations

from contextlib import suppress

from gateway.client import AsyncGateway
from gateway.clock import Clock
from gateway.errors import InvalidInput, RunFailed, RunNotFound, WaitTimeout
from gateway.files import has_paths
from gateway.mcp.quotes import Offers
from gateway.policy.routing import Candidate
from gateway.store.protocol import RunFilter
from gateway.store.shelf import Shelf
from gateway.task import Run, Task
from gateway.types import JSON

LONGEST_WAIT_SECONDS = 300.0


class Tools:
    """What an assistant can do. Everything returned is JSON; what is raised is a GatewayError."""

    def __init__(self, gateway: AsyncGateway, shelf: Shelf, clock: Clock) -> None:
        self._gateway, self._clock = gateway, clock
        self._offers = Offers(shelf, clock)

    async def list_models(self) -> list[dict[str, JSON]]:
        """List the models that can be run, with their backends."""
        return [
            {"model": name, "description": model.description, "backends": list(model.targets)}
            for name, model in self._gateway.models.items()
        ]

    async def quote(self, model: str, input: JSON, backend: str = "auto") -> dict[str, JSON]:
        """Say what a task would cost at each backend that can run it; nothing is spent.

        Each offer has a quote_id. Show its price to who pays, and give the id to `run` once it is approved.
        """
        if has_paths(input):
            raise InvalidInput("a file by its path is not taken from an assistant: send its `data` or `uri`")
        plan = await self._gateway.plan(Task(model=model, input=input), backend)
        offers = [await self._offer(model, input, candidate) for candidate in plan.ranked]
        removed = [{"backend": c.backend, "reason": c.reason} for c in plan.removed]
        return {"offers": offers, "not_possible": removed}

    async def _offer(self, model: str, input: JSON, candidate: Candidate) -> dict[str, JSON]:
        quote, free = candidate.quote, candidate.is_free
        if not free and (quote is None or quote.upper is None):
            return {
                "backend": candidate.backend,
                "quote_id": None,
                "reason": "its price has no upper bound, so it can't be approved here",
            }
        upper = None if free or quote is None else quote.upper
        offer = await self._offers.make(model, input, candidate.backend, upper)
        return {
            "quote_id": offer.id,
            "backend": candidate.backend,
            "price": "free" if quote is None or free else str(quote.expected or quote.upper),
            "at_most": "free" if upper is None else str(upper),
            "expires_at": offer.expires_at.isoformat(),
        }

    async def run(self, quote_id: str, wait_seconds: float = 30.0) -> dict[str, JSON]:
        """Run the task of an approved quote: one attempt at its backend, for at most its price.

        The same quote_id is always the same run: calling this again never pays again.
        """
        offer = await self._offers.get(quote_id)
        known = await self._gateway.list_runs(RunFilter(idempotency_key=offer.key, limit=1))
        if known:
            run = known[0]
        elif offer.expires_at <= self._clock.now():
            raise InvalidInput(f"the quote {quote_id} has expired: ask for a new one")
        else:
            task, backend = offer.make_task(), (offer.backend,)
            run = await self._gateway.submit(task, backend, idempotency_key=offer.key)
        return describe(await self._wait(run, wait_seconds))

    async def get(self, run_id: str, wait_seconds: float = 0.0) -> dict[str, JSON]:
        """Show a run that was begun here; waits for its end if asked to."""
        return describe(await self._wait(await self._find(run_id), wait_seconds))

    async def cancel(self, run_id: str) -> dict[str, JSON]:
        """Ask for a run's end; what the backend has charged by then stays on the bill."""
        await self._find(run_id)
        return describe(await self._gateway.cancel(run_id))

    async def _find(self, run_id: str) -> Run:
        run = await self._gateway.get(run_id)
        if "quote" not in run.task.labels:
            raise RunNotFound(f"there is no run {run_id} of these tools", run_id=run_id)
        return run

    async def _wait(self, run: Run, seconds: float) -> Run:
        if run.status.is_final or seconds <= 0:
            return run
        with suppress(RunFailed, WaitTimeout):
            return await self._gateway.wait(run.id, timeout=min(seconds, LONGEST_WAIT_SECONDS))
        return await self._gateway.get(run.id)


def describe(run: Run) -> dict[str, JSON]:
    """Return what an assistant needs to know of a run."""
    settled = [str(attempt.cost.settled) for attempt in run.attempts if attempt.cost.settled is not None]
    return {
        "run_id": run.id,
        "model": run.task.model,
        "backend": run.attempt.backend if run.attempt else None,
        "status": run.status.name,
        "phase": run.status.phase.value,
        "output": run.output,
        "failure": None if run.failure is None else f"{run.failure.kind.value}: {run.failure.message}",
        "cost": {"outcome": run.cost_outcome.value, "settled": settled},
    }
