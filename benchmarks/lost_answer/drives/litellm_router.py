"""One call with LiteLLM's Router, two deployments, the second as the fallback; retries are its default.

The last argument says which call: "chat" or "image".
"""

from __future__ import annotations

import sys

import litellm


def main(timeout: float, first: str, second: str, what: str) -> None:
    """Make the call."""
    model = "openai/gpt-4o" if what == "chat" else "openai/dall-e-3"
    router = litellm.Router(
        model_list=[
            {
                "model_name": name,
                "litellm_params": {"model": model, "api_key": "sk-loopback", "api_base": f"{url}/v1"},
            }
            for name, url in (("first", first), ("second", second))
        ],
        fallbacks=[{"first": ["second"]}],
        timeout=timeout,
    )
    try:
        if what == "chat":
            router.completion(model="first", messages=[{"role": "user", "content": "hello"}])
        else:
            router.image_generation(model="first", prompt="a lighthouse")
    except Exception as error:  # noqa: BLE001  whatever reaches the caller is what is reported
        print(f"raised {type(error).__name__}")
    else:
        print("finished")


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
