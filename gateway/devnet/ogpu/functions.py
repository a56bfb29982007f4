"""The functions of the demo sources: what a provider runs for a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.devnet.model import analyze
from gateway.types import JSON

_Function = Callable[[Mapping[str, Any]], Awaitable[JSON]]


async def run_function(config: Mapping[str, Any]) -> JSON:
    """Run what a task's config asks for; return the answer's JSON.

    None is what a provider makes of a function that fails, is unknown, or returns nothing: it says nothing.
    """
    function = _FUNCTIONS.get(str(config.get("function_name")))
    data = config.get("data")
    if function is None or not isinstance(data, Mapping):
        return None
    try:
        return await function(data) or None
    except (KeyError, TypeError, ValueError, RuntimeError):
        return None


async def _predict(data: Mapping[str, Any]) -> JSON:
    return await asyncio.to_thread(analyze, str(data["text"]))


async def _echo(data: Mapping[str, Any]) -> JSON:
    return dict(data)


async def _upper(data: Mapping[str, Any]) -> JSON:
    return {"output": str(data["text"]).upper()}


async def _fail(data: Mapping[str, Any]) -> JSON:
    raise RuntimeError(str(data.get("error", "on purpose")))


async def _slow(data: Mapping[str, Any]) -> JSON:
    seconds = float(data.get("seconds", 1))
    await asyncio.sleep(seconds)
    return {**data, "slept": seconds}


_FUNCTIONS: Mapping[str, _Function] = {
    "predict": _predict,
    "sentiment": _predict,
    "echo": _echo,
    "upper": _upper,
    "fail": _fail,
    "slow": _slow,
    "sleep": _slow,
}
