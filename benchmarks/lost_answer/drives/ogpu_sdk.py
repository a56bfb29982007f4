"""One `publish_task` with the official SDK of OGPU; retries are its default."""

from __future__ import annotations

import sys
import time

import ogpu.ipfs.publish
from ogpu import ChainConfig
from ogpu.chain.web3 import Web3Manager
from ogpu.client import TaskInfo, TaskInput, publish_task
from web3 import Web3


def main(timeout: float, url: str) -> None:
    """Make the call."""
    ogpu.ipfs.publish._IPFS_PUBLISH_URL = f"{url}/file/create"  # noqa: SLF001  there is no setting for it
    chain = ChainConfig.get_current_chain()
    ChainConfig.set_rpc(url)
    # Nor is there one for how long it waits for an answer.
    provider = Web3.HTTPProvider(url, request_kwargs={"timeout": timeout})
    Web3Manager._web3_instances[chain] = Web3(provider)  # noqa: SLF001
    task = TaskInfo(
        source="0x" + "11" * 20,
        config=TaskInput(function_name="echo", data={"text": "hello"}),
        expiryTime=int(time.time()) + 3600,
        payment=10**16,
    )
    try:
        publish_task(task, private_key="0x" + "42" * 32)
    except Exception as error:  # noqa: BLE001  whatever reaches the caller is what is reported
        print(f"raised {type(error).__name__}")
    else:
        print("finished")


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
