"""Drive the official SDK openai: `openai_drive.py BASE_URL API_KEY`, against the gateway's OpenAI dialect.

The models are those of the test that calls this: "mood" and "words" chat, "vectors" embeds.
"""

from __future__ import annotations

import asyncio
import sys

import openai


def check(name: str, holds: object) -> None:
    """Print the name of a check that holds; raise AssertionError for one that does not."""
    if not holds:
        raise AssertionError(name)
    sys.stdout.write(f"ok  {name}\n")
    sys.stdout.flush()


SENTENCE = "VADER is smart, handsome, and funny."
WORDS = "the quick brown fox"


def drive(client: openai.OpenAI) -> None:
    """Do what the synchronous client can."""
    check("models.list", {"mood", "words", "vectors"} <= {model.id for model in client.models.list()})
    check("models.retrieve", client.models.retrieve("mood").owned_by == "gateway")
    asked = [{"role": "user", "content": SENTENCE}]
    completion = client.chat.completions.create(model="mood", messages=asked)
    check("chat: the published score", completion.choices[0].message.content == "0.8316")
    check("chat: its end", completion.choices[0].finish_reason == "stop")
    own = {"gateway": {"backend": "auto:cheapest", "labels": {"team": "a"}}}
    raw = client.chat.completions.with_raw_response.create(model="mood", messages=asked, extra_body=own)
    check("chat: the run is named", raw.headers["x-run-id"].startswith("run_"))
    said = [{"role": "user", "content": WORDS}]
    stream = client.chat.completions.create(model="words", messages=said, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    check("chat stream: word by word", len([piece for piece in pieces if piece]) > 1)
    check("chat stream: whole", "".join(pieces) == WORDS)
    vectors = client.embeddings.create(model="vectors", input=[SENTENCE])
    check("embeddings", [round(value, 4) for value in vectors.data[0].embedding] == [0.0, 0.254, 0.746])
    try:
        client.chat.completions.create(model="no-such-model", messages=asked)
    except openai.NotFoundError as error:
        check("an unknown model: its code", error.code == "model_not_found")
    try:
        openai.OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        check("a wrong key: its code", error.code == "invalid_api_key")


async def drive_async(client: openai.AsyncOpenAI) -> None:
    """Do the main of it with the asynchronous client."""
    asked = [{"role": "user", "content": SENTENCE}]
    completion = await client.chat.completions.create(model="mood", messages=asked)
    check("async chat", completion.choices[0].message.content == "0.8316")
    said = [{"role": "user", "content": WORDS}]
    stream = await client.chat.completions.create(model="words", messages=said, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    check("async chat stream", "".join(pieces) == WORDS)


if __name__ == "__main__":
    url, key = sys.argv[1:3]
    drive(openai.OpenAI(base_url=url, api_key=key))
    asyncio.run(drive_async(openai.AsyncOpenAI(base_url=url, api_key=key)))
