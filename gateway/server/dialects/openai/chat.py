"""POST /v1/chat/completions, whole and streamed."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from gateway.errors import GatewayError, InvalidInput
from gateway.lifecycle import Status
from gateway.server.dialects.openai.asking import submit, wait
from gateway.server.dialects.openai.passing import DONE, Passing
from gateway.server.dialects.openai.words import (
    DONT_RETRY,
    RUN_FAILED,
    Asked,
    make_run_header,
    read_asked,
    read_count,
    read_flag,
    read_usage,
    refuse_failed,
    refuse_open,
    tell_error,
)
from gateway.server.dialects.pieces import read_pieces
from gateway.server.events import SSE_HEADERS
from gateway.server.problems import BAD_REQUEST, Refusal, make_problem
from gateway.server.wire import Answer, Request, Stream, answer_json, encode
from gateway.task import Run
from gateway.types import JSON

_ABOUT_THE_ANSWER = frozenset({"model", "stream", "stream_options"})
_CHUNK = "chat.completion.chunk"
_HOLE = "text"


async def create_chat(request: Request) -> Answer:
    """Complete a conversation."""
    asked = await read_asked(request, "chat")
    _check(asked)
    body = {name: value for name, value in asked.body.items() if name not in _ABOUT_THE_ANSWER}
    if not read_flag(asked.body, "stream"):
        run = await wait(request, await submit(request, asked, body))
        return answer_json(_make_completion(run, asked), headers=(make_run_header(run),))
    run = await submit(request, asked, body, stream=True)
    return Stream(_stream(request, run, asked), headers=(*SSE_HEADERS, make_run_header(run)))


def _check(asked: Asked) -> None:
    """Refuse what the model could only ignore."""
    messages = asked.body.get("messages")
    if not (isinstance(messages, list) and messages and all(isinstance(one, dict) for one in messages)):
        raise Refusal(BAD_REQUEST, "messages must be a list of messages", more={"param": "messages"})
    if asked.shape.input is None:
        return
    if (read_count(asked.body, "n") or 1) != 1:
        raise Refusal(BAD_REQUEST, f"{asked.model.name!r} gives one choice", more={"param": "n"})
    for word in ("tools", "functions", "response_format"):
        if asked.body.get(word) and asked.body[word] != {"type": "text"}:
            raise Refusal(BAD_REQUEST, f"{asked.model.name!r} does not take {word}", more={"param": word})


def _make_completion(run: Run, asked: Asked) -> dict[str, JSON]:
    """Return the run's output as a completion; a backend that speaks this API has written it already."""
    output = _read_output(run, asked)
    if isinstance(output, dict) and isinstance(output.get("choices"), list):
        return {**_make_head(run, "chat.completion"), **output}
    choice = {
        "index": 0,
        "message": _make_message(output),
        "logprobs": None,
        "finish_reason": "stop",
    }
    answer = {**_make_head(run, "chat.completion"), "choices": [choice]}
    if asked.shape.usage is not None:
        answer["usage"] = read_usage(run, asked)
    return answer


def _read_output(run: Run, asked: Asked) -> JSON:
    try:
        return run.output if asked.shape.output is None else asked.shape.output.apply(run.output)
    except InvalidInput as error:
        raise Refusal(
            RUN_FAILED,
            f"the output of run {run.id} is not as models.{asked.model.name}.openai.chat says: {error}",
            more={"run_id": run.id, "cost_outcome": run.cost_outcome.value},
            headers=(DONT_RETRY, make_run_header(run)),
        ) from None


def _make_head(run: Run, kind: str) -> dict[str, JSON]:
    created = int(run.created_at.timestamp())
    return {"id": f"chatcmpl-{run.id}", "object": kind, "created": created, "model": run.task.model}


def _make_message(output: JSON) -> dict[str, JSON]:
    if isinstance(output, dict) and "role" in output:
        return output
    return {"role": "assistant", "content": _make_text(output), "refusal": None}


def _make_text(said: JSON) -> str:
    return said if isinstance(said, str) else encode(said).decode()


async def _stream(request: Request, run: Run, asked: Asked) -> AsyncIterator[bytes]:
    """Yield server-sent chunks. The run goes on when the client goes away: it is paid for."""
    head = _make_head(run, _CHUNK)
    told = _Telling(head, asked)
    tell_run = request.service.find_gateway(run.id).hosting.track(run.id)
    async with aclosing(read_pieces(request.service, run.id)) as pieces:
        async for some in pieces:
            yield told.tell_pieces(some) if some else b": still here\n\n"
    try:
        ended = run if tell_run is None else tell_run()
        if not ended.status.is_final:  # or another process has it now
            ended = await request.service.get_run(request.caller, run.id)
        if ended.status is not Status.COMPLETED:
            raise refuse_failed(ended) if ended.status.is_final else refuse_open(ended)
        lines = told.tell_end(ended)
    except GatewayError as error:  # the status has been sent long since
        yield _encode(tell_error(make_problem(error)))
        return
    yield b"".join(lines)


class _Telling:
    """What a stream has told so far."""

    def __init__(self, head: Mapping[str, JSON], asked: Asked) -> None:
        self._head, self._asked = head, asked
        self._has_spoken = self._is_whole = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._passing = Passing() if asked.shape.piece is None else None
        begin, _, end = _encode(self._make_chunk({"content": _HOLE}, None)).rpartition(encode(_HOLE))
        self._around = (begin, end)  # of a text: all else is the same in each chunk

    def tell_pieces(self, pieces: Sequence[JSON | bytes]) -> bytes:
        """Return the chunks of pieces of output; b"" while a character is not complete."""
        if self._passing is not None and isinstance(pieces[0], bytes):
            data = self._passing.feed(b"".join(pieces))
            if self._passing.is_ours is not False:
                return data
            self._passing, pieces = None, [data]
        return b"".join(map(self._tell_piece, pieces))

    def _tell_piece(self, piece: JSON | bytes) -> bytes:
        if isinstance(piece, dict) and isinstance(piece.get("choices"), list):
            self._has_spoken = self._is_whole = True
            return _encode({**self._head, **piece, "object": _CHUNK})
        if isinstance(piece, bytes):
            text = self._decoder.decode(piece)
        elif self._asked.shape.piece is not None:
            try:
                text = _make_text(self._asked.shape.piece.apply(piece))
            except InvalidInput:  # this piece says nothing of what is told here
                return b""
        else:
            text = _make_text(piece)
        return self._tell_text(text) if text else b""

    def _tell_text(self, text: str) -> bytes:
        if self._has_spoken:
            begin, end = self._around
            return b"%b%b%b" % (begin, encode(text), end)
        self._has_spoken = True
        return _encode(self._make_chunk({"role": "assistant", "content": text}, None))

    def _make_chunk(self, delta: JSON, finish: str | None) -> dict[str, JSON]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head, "choices": [choice]}

    def tell_end(self, run: Run) -> list[bytes]:
        """Return the last chunks: the whole output if no piece came before, the end, and what was used."""
        lines: list[bytes] = []
        if self._passing is not None:
            if self._passing.is_ours:
                return [self._passing.end()]
            if self._passing.held:
                lines.append(self._tell_piece(self._passing.held))
        if self._is_whole:
            return [DONE]
        if not self._has_spoken:
            choices: JSON = _make_completion(run, self._asked)["choices"]
            lines.append(_encode(self._make_chunk(choices[0].get("message"), None)))
        elif rest := self._decoder.decode(b"", final=True):
            lines.append(self._tell_text(rest))
        lines.append(_encode(self._make_chunk({}, "stop")))
        options = self._asked.body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            lines.append(_encode({**self._head, "choices": [], "usage": read_usage(run, self._asked)}))
        return [*lines, DONE]


def _encode(chunk: JSON) -> bytes:
    return b"data: %b\n\n" % encode(chunk)
