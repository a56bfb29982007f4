"""Containers of the stand-in: what a node would reach over HTTP is an async function here."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

from gateway.devnet.model import analyze
from gateway.types import JSON

Run: TypeAlias = Callable[[JSON], Awaitable[JSON]]
StreamOf: TypeAlias = Callable[[JSON], AsyncGenerator[bytes, None]]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]

_PIECES = re.compile(r"\s*\S+\s*|\s+")


class ContainerError(Exception):
    """A container failed. Its text is the job's `error`, which is empty after the node's timeout of 180 s."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a node.

    `run` takes the job's `data` (in a chain: the output of the container before, which may be any JSON) and
    returns the output; whatever it raises makes the job fail with the text of the exception. `stream` yields
    bytes; without it a stream delivers `run`'s output as JSON. `resources` is what the container answers at
    /service-resources (None: it does not, and is absent in the node's answer), `models` what it supports.
    """

    id: str
    description: str
    _: KW_ONLY
    run: Run
    stream: StreamOf | None = None
    external: bool = True
    generates_proofs: bool = False
    allowed_ips: Sequence[str] = ()
    allowed_delegate_addresses: Sequence[str] = ()
    resources: JSON = None
    models: Sequence[str] = ()
    image: str = ""


def _make_error(code: str, name: str, description: str) -> JSON:
    """Make the object by which services report an error: the node takes it for a success."""
    return {"code": code, "name": name, "description": description}


def _read_text(data: JSON) -> str | None:
    """Return the text of a request, or of the output of the container before."""
    if isinstance(data, dict):
        for key in ("text", "output"):
            if isinstance(data.get(key), str):
                return str(data[key])
    return None


_NO_TEXT = _make_error("400", "Bad Request", "the data must be an object with a string `text`")


async def _sentiment(data: JSON) -> JSON:
    text = _read_text(data)
    return _NO_TEXT if text is None else {"output": analyze(text)}


async def _echo(data: JSON) -> JSON:
    return data


async def _upper(data: JSON) -> JSON:
    text = _read_text(data)
    return _NO_TEXT if text is None else {"output": text.upper()}


async def _fail(data: JSON) -> JSON:
    raise ContainerError(
        str(data.get("error", "the container failed")) if isinstance(data, dict) else "no data"
    )


async def _error_output(data: JSON) -> JSON:
    del data
    return _make_error("500", "Internal Server Error", "the service failed at this request")


async def _nan(data: JSON) -> JSON:
    del data
    return {"output": {"nan": float("nan"), "infinity": float("inf"), "big": 2**200 + 1}}


async def _prover(data: JSON) -> JSON:
    """Answer with the five keys that services return for the chain: hex without 0x."""
    text = _read_text(data) or ""
    word = text.encode().hex()
    return {
        "raw_input": "",
        "processed_input": word,
        "raw_output": text.upper().encode().hex(),
        "processed_output": "",
        "proof": b"proof of ".hex() + word,
    }


async def _internal(data: JSON) -> JSON:
    return {"output": data}


def _make_sleep(sleep: Sleep) -> Run:
    async def run(data: JSON) -> JSON:
        seconds = float(data.get("seconds", 1.0)) if isinstance(data, dict) else 1.0
        await sleep(seconds)
        return {"output": {"slept_seconds": seconds}}

    return run


def _make_words(sleep: Sleep, delay_seconds: float) -> tuple[Run, StreamOf]:
    """Make a container that says `text` word by word, or `base64` bytes eight at a time.

    It thinks for data["delay_seconds"] before each piece, by default for the given time.
    """

    def split(data: JSON) -> list[bytes]:
        if isinstance(data, dict) and isinstance(data.get("base64"), str):
            raw = base64.b64decode(data["base64"])
            return [raw[start : start + 8] for start in range(0, len(raw), 8)]
        text = _read_text(data)
        if text is None:
            raise ContainerError("the data must be an object with a string `text`")
        return [piece.encode() for piece in _PIECES.findall(text)]

    async def stream(data: JSON) -> AsyncGenerator[bytes, None]:
        seconds = float(data.get("delay_seconds", delay_seconds)) if isinstance(data, dict) else delay_seconds
        for piece in split(data):
            await sleep(seconds)
            yield piece

    async def run(data: JSON) -> JSON:
        return {"output": b"".join(split(data)).decode()}

    return run, stream


def _describe_vader() -> JSON:
    return {
        "service_id": "sentiment",
        "compute_capability": [
            {"id": "ml", "type": "text_classification", "models": ["vader"], "task": ["sentiment"]},
        ],
    }


def make_containers(*, sleep: Sleep = asyncio.sleep, word_delay_seconds: float = 0.02) -> list[Container]:
    """Make the containers that a node of the devnet has. `sleep` is how `sleep` and `words` let time pass.

    - sentiment: VADER's scores of data["text"]; without one an error object, as Ritual's services answer
    - echo: the data; upper: the text (or the output before it) in capitals; internal: only for chains
    - words: streams data["text"] word by word, or the bytes of data["base64"]
    - sleep: takes data["seconds"]; fail: fails with data["error"]; error-output: an error object as success
    - nan: NaN, infinity and a big integer; prover: the five hex keys of services that answer to a chain
    """
    words, stream = _make_words(sleep, word_delay_seconds)
    vader: JSON = {"resources": _describe_vader(), "models": ("vader",)}
    specs: list[tuple[str, str, Run, dict[str, JSON]]] = [
        ("sentiment", "Sentiment of a text, by VADER", _sentiment, vader),
        ("echo", "Answers with its data", _echo, {}),
        ("upper", "Puts a text into capitals", _upper, {}),
        ("words", "Says a text word by word", words, {"stream": stream}),
        ("sleep", "Takes its time", _make_sleep(sleep), {}),
        ("fail", "Fails", _fail, {}),
        ("error-output", "Succeeds with an error object", _error_output, {}),
        ("nan", "Answers with numbers that strict JSON does not have", _nan, {}),
        ("prover", "Puts a text into capitals and proves it", _prover, {"generates_proofs": True}),
        ("internal", "Runs inside a chain only", _internal, {"external": False}),
    ]
    return [
        Container(name, description, run=run, image=f"devnet/{name}:1", **more)
        for name, description, run, more in specs
    ]
