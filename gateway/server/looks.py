"""What can be looked at beside runs: plans, quotes, backends, models, costs."""

from __future__ import annotations

from gateway.server.bodies import CostsQuery, TaskBody
from gateway.server.callers import KeyScope
from gateway.server.routes import Operation, Route
from gateway.server.views import view
from gateway.server.wire import Answer, Request, answer_json


async def make_plan(request: Request) -> Answer:
    """Say where a task would go, and why not elsewhere; nothing is submitted."""
    asked = await request.read(TaskBody)
    task = request.service.check_task(asked.make_task())
    return answer_json(
        view(await request.service.gateway.plan(task, asked.backend, api_key=request.caller.key))
    )


async def make_quotes(request: Request) -> Answer:
    """Say what a task would cost, by backend."""
    asked = await request.read(TaskBody)
    task = request.service.check_task(asked.make_task())
    return answer_json({"quotes": view(await request.service.gateway.quote(task, asked.backend))})


async def list_backends(request: Request) -> Answer:
    """Ask every backend what it is and can, and say what is known of its health."""
    gateway = request.service.gateway
    return answer_json({"backends": view(await gateway.backends()), "health": view(await gateway.health())})


async def list_models(request: Request) -> Answer:
    """Show the catalogue; no backend is asked."""
    models = request.service.gateway.models
    listed = [
        {
            "name": name,
            "description": model.description,
            "targets": {target.backend: dict(target.words) for target in model.targets.values()},
        }
        for name, model in models.items()
    ]
    return answer_json({"models": listed})


async def sum_up_costs(request: Request) -> Answer:
    """Sum up what was quoted, is reserved and was settled: for the caller's runs, for admins all."""
    query, caller = request.read_query(CostsQuery), request.caller
    since = query.get_since(request.service.clock.now())
    whose = query.key if caller.sees_all else caller.key
    lines = await request.service.gateway.costs(since, by=query.by, api_key=whose)
    return answer_json({"since": view(since), "lines": view(lines)})


_ASKED = (404, 422, 503)
ROUTES = (
    Route(
        "POST",
        "/v1/plans",
        make_plan,
        KeyScope.READ,
        Operation("Say where a task would go", body=TaskBody, answer="Plan", problems=_ASKED),
    ),
    Route(
        "POST",
        "/v1/quotes",
        make_quotes,
        KeyScope.READ,
        Operation("Say what a task would cost", body=TaskBody, answer="Quotes", problems=_ASKED),
    ),
    Route(
        "GET",
        "/v1/backends",
        list_backends,
        KeyScope.READ,
        Operation("List the backends and their health", answer="Backends"),
    ),
    Route(
        "GET",
        "/v1/models",
        list_models,
        KeyScope.READ,
        Operation("List the models and their targets", answer="Models"),
    ),
    Route(
        "GET",
        "/v1/costs",
        sum_up_costs,
        KeyScope.READ,
        Operation("Sum up costs", query=CostsQuery, answer="Costs"),
    ),
)
