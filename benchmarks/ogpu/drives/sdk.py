"""Publish tasks with OGPU's official SDK, in the given number of threads; one is one after another.

It runs in the SDK's own environment and imports nothing of this repository. The SDK's main network is made
the local one, for it knows its networks by heart; nothing else is changed.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ogpu.ipfs.publish
from ogpu.chain.config import ChainConfig, ChainId
from ogpu.client import TaskInfo, TaskInput, publish_task


def main(place: dict[str, Any]) -> None:
    """Do what the place says."""
    ChainConfig.CHAIN_CONTRACTS[ChainId.OGPU_MAINNET] = {
        name.upper(): address for name, address in place["contracts"].items()
    }
    ChainConfig.set_chain(ChainId.OGPU_MAINNET)
    ChainConfig.set_rpc(place["rpc_url"])
    ogpu.ipfs.publish._IPFS_PUBLISH_URL = place["pin_url"]  # noqa: SLF001  there is no setting for it

    def publish(number: int) -> str:
        task = TaskInfo(
            source=place["source"],
            config=TaskInput(function_name="echo", data={"text": f"task {number}"}),
            expiryTime=int(time.time()) + 3600,
            payment=10**16,
        )
        try:
            publish_task(task, place["private_key"])
        except Exception as error:  # noqa: BLE001  whatever reaches the caller is what is reported
            return type(error).__name__
        return ""

    def publish_all() -> dict[str, Any]:
        began = time.monotonic()
        with ThreadPoolExecutor(place["threads"]) as threads:
            errors = [error for error in threads.map(publish, range(place["tasks"])) if error]
        return {"seconds": time.monotonic() - began, "errors": errors}

    print("ready", flush=True)
    while (word := sys.stdin.readline().strip()) in ("publish", "settle"):
        print(json.dumps(publish_all() if word == "publish" else {}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
