"""infernet-client as its docs say: request_job, then get_job_result_sync, with tries enough."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from infernet_client.node import NodeClient

URL, SECONDS, COUNT, AT_ONCE = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


async def main() -> None:
    """Run the jobs."""
    client = NodeClient(URL)
    late: list[float] = []

    async def run() -> None:
        job = {"containers": ["echo"], "data": {"seconds": SECONDS}}
        job_id = await client.request_job(job, timeout=60)
        result = await client.get_job_result_sync(job_id, retries=1000)
        late.append(time.monotonic() - result["result"]["output"]["ended"])

    for _ in range(COUNT // AT_ONCE):
        await asyncio.gather(*(run() for _ in range(AT_ONCE)))
    print(json.dumps({"late_ms": [seconds * 1e3 for seconds in late]}))


asyncio.run(main())
