"""OpenAI's SDK, one call instead of a job's two."""

from __future__ import annotations

import asyncio

from crowd import URL, measure  # type: ignore[import-not-found]  # beside this script
from openai import AsyncOpenAI


async def main() -> None:
    """Make calls."""
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key="none") as client:
        messages = [{"role": "user", "content": "hello"}]
        await measure(lambda: client.chat.completions.create(model="echo", messages=messages))


asyncio.run(main())
