"""The same by hand: httpx with its defaults, one POST and as many GETs as it takes."""

from __future__ import annotations

import asyncio

import httpx
from crowd import URL, measure  # type: ignore[import-not-found]  # beside this script


async def main() -> None:
    """Submit and look until it is there."""
    async with httpx.AsyncClient(timeout=60) as client:

        async def work() -> None:
            body = {"containers": ["echo"], "data": {"text": "hello"}}
            posted = await client.post(f"{URL}/api/jobs", json=body)
            posted.raise_for_status()
            while True:
                answer = await client.get(f"{URL}/api/jobs", params={"id": posted.json()["id"]})
                answer.raise_for_status()
                if answer.json()[0]["status"] == "success":
                    return
                await asyncio.sleep(0.03)

        await measure(work)


asyncio.run(main())
