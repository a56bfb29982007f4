"""LiteLLM's Router with one deployment, one call instead of a job's two."""

from __future__ import annotations

import asyncio

import litellm
from crowd import URL, measure  # type: ignore[import-not-found]  # beside this script

litellm.suppress_debug_info = True
DEPLOYMENT = {
    "model_name": "echo",
    "litellm_params": {"model": "openai/echo", "api_base": f"{URL}/v1", "api_key": "none"},
}


async def main() -> None:
    """Make calls."""
    router = litellm.Router(model_list=[DEPLOYMENT])
    messages = [{"role": "user", "content": "hello"}]
    await measure(lambda: router.acompletion(model="echo", messages=messages))


asyncio.run(main())
