"""infernet-client at its fastest: `request_job`, then `get_job_results` at once, without its wait of 1 s."""

from __future__ import annotations

import asyncio

from crowd import URL, measure  # type: ignore[import-not-found]  # beside this script
from infernet_client.node import NodeClient


async def main() -> None:
    """Submit and look until it is there."""
    client = NodeClient(URL)

    async def work() -> None:
        job_id = await client.request_job({"containers": ["echo"], "data": {"text": "hello"}}, timeout=60)
        while (await client.get_job_results([job_id], timeout=60))[0]["status"] != "success":  # noqa: ASYNC110  a poll
            await asyncio.sleep(0.03)

    await measure(work)


asyncio.run(main())
