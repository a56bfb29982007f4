"""One chat completion with the OpenAI SDK; retries are its default."""

from __future__ import annotations

import sys

from openai import OpenAI


def main(timeout: float, url: str) -> None:
    """Make the call."""
    client = OpenAI(api_key="sk-loopback", base_url=f"{url}/v1", timeout=timeout)
    try:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])
    except Exception as error:  # noqa: BLE001  whatever reaches the caller is what is reported
        print(f"raised {type(error).__name__}")
    else:
        print("finished")


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
