"""One `subscribe` with fal-client; retries are its default."""

from __future__ import annotations

import sys

import fal_client
import fal_client.client


def main(timeout: float, url: str) -> None:
    """Make the call."""
    fal_client.client.QUEUE_URL_FORMAT = f"{url}/"  # it can be told the host, but not to go without TLS
    client = fal_client.SyncClient(key="loopback:key", default_timeout=timeout)
    try:
        client.subscribe("fal-ai/flux/dev", arguments={"prompt": "a lighthouse"})
    except Exception as error:  # noqa: BLE001  whatever reaches the caller is what is reported
        print(f"raised {type(error).__name__}")
    else:
        print("finished")


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
