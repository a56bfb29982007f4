"""One `run` with the official SDK of inference.sh. Its timeout for a request is 30 s and can't be set."""

from __future__ import annotations

import sys

import inferencesh


def main(_timeout: float, url: str) -> None:
    """Make the call."""
    client = inferencesh.Inference(api_key="inf_devnet", base_url=url)
    try:
        client.run({"app": "demo/echo", "input": {"text": "hello"}})
    except Exception as error:  # noqa: BLE001  whatever reaches the caller is what is reported
        print(f"raised {type(error).__name__}")
    else:
        print("finished")


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
