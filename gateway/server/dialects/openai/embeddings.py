"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from gateway.catalogue import Shape
from gateway.errors import InvalidInput
from gateway.server.dialects.openai.asking import submit, wait
from gateway.server.dialects.openai.words import (
    DONT_RETRY,
    RUN_FAILED,
    make_run_header,
    read_asked,
    read_usage,
)
from gateway.server.problems import BAD_REQUEST, Refusal
from gateway.server.wire import Answer, Request, answer_json
from gateway.task import Run
from gateway.types import JSON

_FORMATS = ("float", "base64")


async def create_embeddings(request: Request) -> Answer:
    """Turn texts into vectors."""
    asked = await read_asked(request, "embeddings")
    texts, form = asked.body.get("input"), asked.body.get("encoding_format") or "float"
    if not texts or not isinstance(texts, str | list):
        raise Refusal(BAD_REQUEST, "input must be a text or a list of texts", more={"param": "input"})
    if form not in _FORMATS:
        raise Refusal(BAD_REQUEST, f"encoding_format is one of {', '.join(_FORMATS)}")
    body = {name: value for name, value in asked.body.items() if name not in ("model", "encoding_format")}
    run = await wait(request, await submit(request, asked, body))
    vectors = _read_vectors(run, asked.shape)
    try:
        told = [_pack(vector) for vector in vectors] if form == "base64" else vectors
    except OverflowError:
        raise _refuse_output(run, "a number is too large for base64; encoding_format float has it") from None
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(told)]
    answer: dict[str, JSON] = {"object": "list", "data": data, "model": asked.model.name}
    if asked.shape.usage is not None:
        answer["usage"] = read_usage(run, asked)
    return answer_json(answer, headers=(make_run_header(run),))


def _read_vectors(run: Run, shape: Shape) -> list[Sequence[float]]:
    """Return the output's vectors: a list of them, one alone, or a whole answer of this API."""
    try:
        output = run.output if shape.output is None else shape.output.apply(run.output)
    except InvalidInput as error:
        raise _refuse_output(run, str(error)) from None
    if isinstance(output, dict) and isinstance(output.get("data"), list):
        output = [item.get("embedding") if isinstance(item, dict) else None for item in output["data"]]
    if isinstance(output, list) and output and all(_is_number(item) for item in output):
        output = [output]
    if not isinstance(output, list) or not all(
        isinstance(vector, list) and vector and all(_is_number(item) for item in vector) for vector in output
    ):
        raise _refuse_output(run, "it is no list of vectors")
    return output


def _refuse_output(run: Run, why: str) -> Refusal:
    return Refusal(
        RUN_FAILED,
        f"the output of run {run.id} can't be told as embeddings: {why}; see models.{run.task.model}.openai",
        more={"run_id": run.id, "cost_outcome": run.cost_outcome.value},
        headers=(DONT_RETRY, make_run_header(run)),
    )


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pack(vector: Sequence[float]) -> str:
    """Return a vector as the SDK asks for it: float32, little-endian, in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
