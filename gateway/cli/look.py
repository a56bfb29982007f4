"""`gateway plan`, `backends` and `models`: what is there, and what would happen."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.cli.exits import DONE, NO_BACKEND, UsageError
from gateway.cli.limit_words import get_given
from gateway.cli.stored import find_run, open_store
from gateway.cli.tables import format_table, get_width
from gateway.cli.task_words import add_task_arguments, get_backend, make_task
from gateway.cli.words import format_json, format_quote, format_seconds
from gateway.client import AsyncGateway

if TYPE_CHECKING:
    from gateway.adapter import Capabilities
    from gateway.policy.routing import Candidate, Plan
    from gateway.types import JSON


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Take what the command `name` takes."""
    if name == "plan":
        add_task_arguments(parser)
        parser.add_argument(
            "--run", metavar="RUN_ID", help="plan this past run again, with what was known then"
        )
        parser.add_argument("--stream", action="store_true", help="plan for a task that streams")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call={"plan": plan, "backends": show_backends, "models": show_models}[name])


async def plan(args: argparse.Namespace) -> int:
    """Show every candidate with its rank, quote and score, or the rule that removed it."""
    found = await (_plan_task(args) if args.run is None else _plan_run(args))
    print(found.model_dump_json().decode() if args.json else format_plan(found, get_width()))
    return DONE if found.get_best() else NO_BACKEND


async def _plan_task(args: argparse.Namespace) -> Plan:
    task = make_task(args, stream=args.stream)
    gateway = AsyncGateway.from_config(args.config)
    try:
        return await gateway.plan(task, get_backend(args))
    finally:
        await gateway.aclose()


async def _plan_run(args: argparse.Namespace) -> Plan:
    """Replay a run's plan; a limit that is given stands in the place of the run's own."""
    if any((args.model, args.target, args.input, args.text, args.input_file, args.file, args.stream)):
        raise UsageError("--run plans a past run again: its model and input are known, give only a policy")
    given = get_given(args)
    async with open_store(args.config) as store:
        run = await find_run(args.run, store.list_runs, store.get)
    backend = None if args.backend is None else get_backend(args)
    limits = replace(run.task.limits, **given) if given else None
    gateway = AsyncGateway.from_config(args.config)  # its store stays closed: no run is taken over
    try:
        return await gateway.replan(run, backend=backend, limits=limits)
    finally:
        await gateway.aclose()


def format_plan(plan: Plan, width: int | None) -> str:
    """Return the plan as a table."""
    head = ("backend", "rank", "quote", "score", "made of", "removed by", "reason")
    rows = [
        (
            one.backend,
            one.rank or None,
            one.quote_error or format_quote(one.quote),
            None if one.score is None else f"{one.score:.4g}",
            _format_parts(one),
            one.removed_by,
            one.reason,
        )
        for one in plan.candidates
    ]
    return f"sorted by: {plan.sort}\n{format_table(head, rows, width)}"


def _format_parts(candidate: Candidate) -> str:
    parts = candidate.parts
    told = []
    for name, value in parts.items():
        if value is None or (name == "looks" and not value):
            continue
        if name.endswith("_seconds") and isinstance(value, int | float):
            told.append(f"{name.removesuffix('_seconds')} {format_seconds(value)}")
        else:
            told.append(f"{name} {value:.4g}" if isinstance(value, int | float) else f"{name} {value}")
    return ", ".join(told)


async def show_backends(args: argparse.Namespace) -> int:
    """Ask every backend what it is and can."""
    from gateway.config import load
    from gateway.store import make_store

    config = load(args.config)
    settings = config.backends
    gateway = AsyncGateway.from_settings(config, store=make_store("memory:"))  # runs are no matter here
    addresses = {name: one.address for name, one in gateway.adapters.items()}
    try:
        found = await gateway.backends()
    finally:
        await gateway.aclose()
    if args.json:
        print(format_json({name: _encode(facts) for name, facts in found.items()}))
    else:
        head = ("backend", "adapter", "address", "health", "version", "features", "note")
        rows = [
            (
                name,
                settings[name].adapter,
                addresses[name],
                "healthy" if facts.healthy else "DOWN",
                facts.version,
                ", ".join(sorted(facts.features)),
                facts.reason,
            )
            for name, facts in found.items()
        ]
        print(format_table(head, rows, get_width()))
    return DONE if any(facts.healthy for facts in found.values()) else NO_BACKEND


def _encode(facts: Capabilities) -> JSON:
    return {
        "healthy": facts.healthy,
        "version": facts.version,
        "features": sorted(facts.features),
        "poll_many": facts.poll_many,
        "free": facts.free,
        "offers": None if facts.offers is None else sorted(facts.offers),
        "reason": facts.reason,
        "detail": dict(facts.detail),
    }


async def show_models(args: argparse.Namespace) -> int:
    """Show the catalogue; no backend is asked."""
    gateway = AsyncGateway.from_config(args.config)
    try:
        models = gateway.models
    finally:
        await gateway.aclose()
    if args.json:
        targets = {
            name: {target.backend: dict(target.words) for target in model.targets.values()}
            for name, model in models.items()
        }
        print(format_json(targets))
        return DONE
    rows = [
        (
            name,
            ", ".join(model.targets),
            "; ".join(_format_words(target.words) for target in model.targets.values()),
            model.description,
        )
        for name, model in models.items()
    ]
    print(format_table(("model", "backends", "targets", "description"), rows, get_width()))
    return DONE


def _format_words(words: JSON) -> str:
    return ", ".join(
        f"{name} {'+'.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in words.items()
        if not isinstance(value, dict)
    )
