"""One call of the API: send it, judge the answer, take the data out of its envelope."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

from gateway.errors import BackendError, InDoubt, Misbehaved
from gateway.http import Answer, HttpClient, StreamAnswer
from gateway.types import JSON
from gateway_inferencesh.errors import make_error
from gateway_inferencesh.wire import Body, BrokenAnswer, mark_unsound, parse_body

_logger = logging.getLogger(__name__)


def make_path(*parts: str) -> str:
    """Join parts to a path; ids from elsewhere can't leave their place in it."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


class Api:
    """The API of one account."""

    def __init__(self, http: HttpClient) -> None:
        """Make it without I/O."""
        self.http = http
        self.backend = http.backend

    async def call(
        self,
        method: str,
        path: str,
        *,
        what: str,
        lands: bool = False,
        json: JSON = None,
        params: Mapping[str, str] | None = None,
        job_id: str | None = None,
        takes_unsound: bool = False,
    ) -> Body:
        """Do one call and return what a success carries.

        Args:
            method: of HTTP.
            path: below the base URL.
            what: names the call in errors, for a person.
            lands: whether it may start something that must not be started twice.
            json: the body.
            params: of the query.
            job_id: which job it is about, for errors.
            takes_unsound: whether an answer is of use that holds what our own stores can't keep.

        Raises:
            BackendError: see `make_error`; a success that can't be read is InDoubt if it `lands`, else
                Misbehaved.
        """
        try:
            answer = await self.http.request(method, path, lands=lands, json=json, params=params)
        except Misbehaved as error:
            if lands:
                raise InDoubt(f"{what}: {error.message}", backend=self.backend, job_id=job_id) from error
            error.job_id = job_id
            raise
        except BackendError as error:
            error.job_id = job_id
            raise
        body = self.read(answer, what, lands=lands, job_id=job_id)
        if not (body.is_sound or takes_unsound):
            raise self.make_broken(what, "it can't be kept", lands=lands, job_id=job_id, answer=answer)
        return body

    def read(self, answer: Answer, what: str, *, lands: bool, job_id: str | None = None) -> Body:
        """Return what a whole answer carries, or raise as `call` does."""
        if not 200 <= answer.status < 300:
            raise make_error(answer, what, backend=self.backend, lands=lands, job_id=job_id)
        try:
            body = parse_body(answer)
        except BrokenAnswer as error:
            raise self.make_broken(what, str(error), lands=lands, job_id=job_id, answer=answer) from error
        if body.problem is not None:
            problem = body.problem
            raise make_error(answer, what, backend=self.backend, lands=lands, job_id=job_id, problem=problem)
        for message in body.messages:
            if message.get("level") in ("warning", "error"):
                _logger.warning("%s: %s: %s", self.backend, what, message.get("message"))
        return body

    def make_broken(
        self, what: str, why: str, *, lands: bool, job_id: str | None = None, answer: Answer | None = None
    ) -> BackendError:
        """Make the error for a success that carries nothing of use."""
        kind = InDoubt if lands else Misbehaved
        return kind(
            f"{what}: the answer says success, but {why}",
            backend=self.backend,
            job_id=job_id,
            code="broken_answer",
            http_status=answer.status if answer else None,
        )

    async def fetch_object(
        self,
        method: str,
        path: str,
        *,
        what: str,
        json: JSON = None,
        params: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> dict[str, JSON]:
        """Do a call that starts nothing and answers with an object."""
        data = (await self.call(method, path, what=what, json=json, params=params, job_id=job_id)).data
        if not isinstance(data, dict):
            raise self.make_broken(what, "it carries no object", lands=False, job_id=job_id)
        return data

    async def fetch_list(
        self, method: str, path: str, *, what: str, params: Mapping[str, str] | None = None, json: JSON = None
    ) -> list[JSON]:
        """Do a call that starts nothing and answers with a list."""
        data = (await self.call(method, path, what=what, params=params, json=json)).data
        if not isinstance(data, list):
            raise self.make_broken(what, "it carries no list", lands=False)
        return data

    async def fetch_task(self, job_id: str) -> dict[str, JSON]:
        """GET the whole task: the truth about it."""
        path, what = make_path("tasks", job_id), f"task {job_id}"
        body = await self.call("GET", path, what=what, job_id=job_id, takes_unsound=True)
        if not isinstance(body.data, dict):
            raise self.make_broken(what, "it carries no object", lands=False, job_id=job_id)
        return body.data if body.is_sound else mark_unsound(body.data)

    @asynccontextmanager
    async def open_lines(self, job_id: str, *, silence_seconds: float) -> AsyncIterator[StreamAnswer]:
        """Open a task's stream as NDJSON, checked for its status and type before a byte of it is read."""
        what = f"the stream of task {job_id}"
        async with self.http.stream(
            "GET",
            make_path("tasks", job_id, "stream"),
            lands=False,
            headers={"accept": "application/x-ndjson"},
            timeout_seconds=silence_seconds,
        ) as stream:
            if not 200 <= stream.status < 300:
                answer = await stream.aread()
                raise make_error(answer, what, backend=self.backend, lands=False, job_id=job_id)
            kind = stream.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind not in _LINE_TYPES:
                raise Misbehaved(
                    f"{what} is {kind or 'of no type'} and not lines of JSON",
                    backend=self.backend,
                    job_id=job_id,
                    http_status=stream.status,
                )
            yield stream


_LINE_TYPES = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/json-lines",
    }
)
