"""Runs over HTTP: give a task, look at runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.config import LimitsConfig, Strict
from gateway.server.callers import KeyScope
from gateway.server.routes import Operation, Route
from gateway.server.wire import Answer, Request, Response, answer_json
from gateway.task import Run, Task
from gateway.types import JSON


class NewRun(Strict):
    """The body of POST /v1/runs: a task, and where it may go."""

    model: str | None = None
    input: JSON = None
    target: dict[str, JSON] | None = None
    backend: str | tuple[str, ...] = "auto"
    accept: Literal["first", "cheapest", "hand"] = "first"
    stream: bool = False
    limits: LimitsConfig = LimitsConfig()
    labels: dict[str, str] = Field(default_factory=dict)

    def make_task(self) -> Task:
        """Return the task."""
        return Task(
            model=self.model,
            input=self.input,
            target=self.target,
            accept=self.accept,
            stream=self.stream,
            limits=self.limits.make_limits(),
            labels=self.labels,
        )


async def create_run(request: Request) -> Answer:
    """Take a task in: stored and on its way with the answer."""
    asked = await request.read(NewRun)
    run = await request.service.submit(request.caller, asked.make_task(), asked.backend)
    return answer_run(run, 202)


async def get_run(request: Request) -> Answer:
    """Show one run."""
    return answer_run(await request.service.get_run(request.caller, request.params["id"]))


def answer_run(run: Run, status: int = 200) -> Response:
    """Answer with a run, and say where it is."""
    return answer_json(run, status, ((b"location", f"/v1/runs/{run.id}".encode()),))


ROUTES = (
    Route("POST", "/v1/runs", create_run, KeyScope.RUN, Operation("Give a task", body=NewRun, status=202)),
    Route("GET", "/v1/runs/{id}", get_run, KeyScope.READ, Operation("Show a run", answer=Run)),
)
