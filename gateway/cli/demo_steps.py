"""The steps of the demo. Each checks what it shows: a step that does not do what it says breaks the demo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.cli.words import format_cost, format_seconds, get_seconds
from gateway.client import AsyncGateway
from gateway.devnet.faults import Fault, Operation
from gateway.errors import GatewayError, RunFailed
from gateway.lifecycle import AttemptStatus, Status
from gateway.limits import Limits
from gateway.reading import Selected
from gateway.task import Event, FailureKind, Run, Task

if TYPE_CHECKING:
    from gateway.devnet.network import Network

_PATIENCE_SECONDS = 20.0

# The sentences and their compound scores stand in VADER's own documentation.
_AT_THE_NODE = (
    ("VADER is smart, handsome, and funny.", 0.8316),
    ("VADER is not smart, handsome, nor funny.", -0.7424),
    ("At least it isn't a horrible book.", 0.431),
)
_WITHOUT_THE_NODE = (
    ("The book was good.", 0.4404),
    ("Today SUX!", -0.5461),
    ("Today only kinda sux! But I'll get by, lol", 0.5249),
)


class BrokenPromise(GatewayError):
    """A step did not show what it says."""


@dataclass(slots=True)
class Stage:
    """What the steps play on."""

    gateway: AsyncGateway
    network: Network
    say: Callable[[str], None]
    run_ids: list[str] = field(default_factory=list)

    async def submit(self, task: Task, backend: Selected = "auto") -> Run:
        """Give a task away, and remember its run for the table at the end."""
        run = await self.gateway.submit(task, backend)
        self.run_ids.append(run.id)
        return run

    async def finish(self, run: Run) -> Run:
        """Wait for a run's end, whatever it is."""
        try:
            return await self.gateway.wait(run.id, timeout=_PATIENCE_SECONDS)
        except RunFailed as failed:
            return failed.run

    async def wait_for(self, run: Run, what: str, is_it: Callable[[Event], bool]) -> None:
        """Read a run's events until the one that is meant."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                async for event in self.gateway.events(run.id):
                    if is_it(event):
                        return
        except TimeoutError:
            pass  # told below, as when the run ends without it
        raise BrokenPromise(f"run {run.id} never came to this: {what}")

    async def list_on_chain(self, task: Task) -> list[str]:
        """List the tasks with this input that are on the chain now."""
        await self.network.refresh()
        return [line.job_id for line in self.network.get("chain").journal if line.input == task.input]

    def count_accepted(self, backend: str) -> int:
        """Count what a stand-in has accepted: what a real backend would have billed."""
        return len(self.network.get(backend).journal)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what happens, why it matters, and the playing of it."""

    title: str
    why: str
    play: Callable[[Stage], Awaitable[None]]
    on_chain: bool = False


def promise(kept: bool, what: str) -> None:  # noqa: FBT001  it reads like a sentence: promise(it holds, what)
    """Raise BrokenPromise unless it is kept."""
    if not kept:
        raise BrokenPromise(what)


async def _rate(stage: Stage, sentences: Sequence[tuple[str, float]]) -> list[Run]:
    runs = []
    for text, published in sentences:
        run = await stage.finish(await stage.submit(Task(model="sentiment", input={"text": text})))
        promise(run.status is Status.COMPLETED, f'"{text}" was not rated: {run.failure}')
        label, compound = run.output["label"], run.output["compound"]
        promise(compound == published, f'"{text}" got {compound}, and VADER\'s authors say {published}')
        where = " then ".join(attempt.backend for attempt in run.attempts)
        stage.say(f"  {text:<43} {label:<8} {compound:+.4f}   {where}")
        runs.append(run)
    return runs


async def _play_sentences(stage: Stage) -> None:
    runs = await _rate(stage, _AT_THE_NODE)
    promise(all(_places(run) == ["node1"] for run in runs), "the free node was not chosen for every sentence")


async def _play_failover(stage: Stage) -> None:
    await stage.network.stop("node1")
    stage.say("  (node1 is taken away: nothing listens there any more)")
    first, *others = await _rate(stage, _WITHOUT_THE_NODE)
    promise(_places(first) == ["node1", "hosted"], "the first sentence did not move on to the hosted API")
    promise(first.attempts[0].status is AttemptStatus.REFUSED, "the attempt at node1 was not refused")
    promise(all(_places(run)[-1] == "hosted" for run in others), "a sentence was rated by nobody knows whom")
    stage.say(
        '  "node1 then hosted": the connection was refused, so nothing was sent, and nothing is owed there.'
    )


async def _play_lost_job(stage: Stage) -> None:
    await stage.network.start("node1")
    await _wait_until_healthy(stage, "node1")
    limits = Limits(on_failed="next")
    task = Task(model="sleep", input={"seconds": 1.0}, limits=limits)
    run = await stage.submit(task, ["node1", "hosted"])
    await stage.wait_for(run, "node1 took the job", lambda event: event.message == AttemptStatus.SUBMITTED)
    stage.say("  node1 took the job ...")
    await stage.network.restart("node1")
    stage.say("  ... and is restarted: like a real node, it has forgotten what was running")
    run = await stage.finish(run)
    promise(run.status is Status.COMPLETED, f"the run did not end well: {run.failure}")
    promise(run.attempts[0].status is AttemptStatus.LOST, "the job at node1 was not seen to be lost")
    promise(_places(run) == ["node1", "hosted"], "the run did not go on at the hosted API")
    stage.say(f"  the gateway sees that the job is lost, and hosted does it: {run.output}")


async def _play_chain(stage: Stage) -> None:
    task = Task(model="sentiment-anywhere", input={"text": "It isn't bad at all."})
    await stage.network.stop("node1")
    stage.say("  (node1 is taken away)")
    there = await stage.finish(await stage.submit(task, ["node1", "chain"]))
    promise(there.status is Status.COMPLETED, f"the run did not end well: {there.failure}")
    promise(_places(there) == ["node1", "chain"], "the run did not move on to the chain")
    on_chain = await stage.list_on_chain(task)
    promise(len(on_chain) == 1, f"the chain has {len(on_chain)} tasks of one run")
    stage.say(f"  node1 then chain: {there.output['compound']:+.4f}, as task {on_chain[0]}")
    stage.say(f"  paid once, for that task and its gas: {format_cost(there)}")

    await stage.network.start("node1")
    await _wait_until_healthy(stage, "node1")
    await stage.network.arm("node1", Fault.RATE_LIMIT, on=Operation.SUBMIT)
    await stage.network.arm("chain", "server_error", times=None)
    stage.say("  (node1 is back and says once that it is busy; the chain's RPC answers nothing but errors)")
    back = await stage.finish(await stage.submit(task, ["node1", "chain"]))
    stage.network.clear("chain")
    promise(back.status is Status.COMPLETED, f"the run did not end well: {back.failure}")
    promise(_places(back) == ["node1", "chain", "node1"], "the run did not come back from the chain to node1")
    promise(await stage.list_on_chain(task) == on_chain, "the chain took what it was to refuse")
    stage.say(f"  node1 then chain then node1: {back.output['compound']:+.4f}, {format_cost(back)}")


async def _play_failure(stage: Stage) -> None:
    reason = "the model ran out of memory"
    run = await stage.finish(await stage.submit(Task(model="fail", input={"error": reason}), "node1"))
    promise(run.status is Status.FAILED, f"the run ended {run.status.name}")
    promise(run.failure is not None and run.failure.kind is FailureKind.JOB, f"it failed by {run.failure}")
    told = _tell_failure(run)
    promise(reason in told, f"the failure does not tell the container's words: {told}")
    stage.say(f"  {run.status.name}, {told}")


async def _play_lost_answer(stage: Stage) -> None:
    before = stage.count_accepted("hosted")
    await stage.network.arm("hosted", Fault.ANSWER_LOST, on=Operation.SUBMIT)
    text = "The plot was good, but the characters are uncompelling and the dialog is not great."
    run = await stage.finish(await stage.submit(Task(model="sentiment", input={"text": text}), "hosted"))
    accepted = stage.count_accepted("hosted") - before
    promise(run.status is Status.COMPLETED, f"the run did not end well: {run.failure}")
    promise(accepted == 1, f"hosted accepted {accepted} submissions of one task")
    promise(len(run.attempts) == 1, f"there were {len(run.attempts)} attempts")
    await stage.wait_for(run, "its answer was in doubt", lambda event: _begins(event, AttemptStatus.IN_DOUBT))
    stage.say("  submitted once; hosted took it, and the connection broke before it could say so: IN DOUBT")
    stage.say(
        f"  looked up in hosted's list of tasks, found, followed to its end: {run.output['compound']:+.4f}"
    )
    stage.say(f"  accepted (and billed) by hosted: {accepted} time. cost: {format_cost(run)}")


async def _play_cancel(stage: Stage) -> None:
    run = await stage.submit(Task(model="sleep", input={"seconds": 600}), "hosted")
    await stage.wait_for(run, "it is RUNNING", lambda event: event.status is Status.RUNNING)
    stage.say("  a job of ten minutes is RUNNING; now it is cancelled")
    await stage.gateway.cancel(run.id)
    run = await stage.finish(run)
    promise(run.status is Status.CANCELLED, f"the run ended {run.status.name}")
    stage.say(f"  {run.status.name} after {format_seconds(get_seconds(run))}")


async def _play_stream(stage: Stage) -> None:
    text = "Pieces of an answer are yours as soon as they are there."
    task = Task(model="words", input={"text": text, "delay_seconds": 0.08}, stream=True)
    begun = time.monotonic()
    run = await stage.submit(task, "node1")
    pieces = [
        (time.monotonic() - begun, event.data.decode())
        async for event in stage.gateway.events(run.id)
        if event.data is not None
    ]
    run = await stage.finish(run)
    told = "".join(piece for _, piece in pieces)
    promise(run.status is Status.COMPLETED, f"the run did not end well: {run.failure}")
    promise(len(pieces) > 1, "the answer did not come in pieces")
    promise(told == text, f'the pieces were "{told}"')
    stage.say("  " + " ".join(f"[{at:.2f} s]{piece.strip()}" for at, piece in pieces))


async def _wait_until_healthy(stage: Stage, backend: str) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not (await stage.gateway.backends())[backend].healthy:
        promise(time.monotonic() < end, f"{backend} did not come back")
        await asyncio.sleep(0.05)


def _tell_failure(run: Run) -> str:
    return f"kind {run.failure.kind}: {run.failure.message}" if run.failure else "no failure"


def _places(run: Run) -> list[str]:
    return [attempt.backend for attempt in run.attempts]


def _begins(event: Event, status: AttemptStatus) -> bool:
    return event.kind == "attempt" and (event.message or "").startswith(status)


_STEPS = (
    Step(
        "one call, a real answer",
        'Each sentence is one `gateway.run(task)` with backend="auto": the cheapest backend gets it.\n'
        "The scores are those that VADER's authors publish.",
        _play_sentences,
    ),
    Step(
        "failover",
        "A backend that can't be reached has taken nothing, so another may have the task at once.",
        _play_failover,
    ),
    Step(
        "a job that is lost in the middle",
        'A job was accepted and is gone. With on_failed="next" the run goes on elsewhere by itself.',
        _play_lost_job,
    ),
    Step(
        "to the chain and back",
        "OGPU runs tasks that are published and paid on a chain. What is signed is stored before it is sent.",
        _play_chain,
        on_chain=True,
    ),
    Step(
        "a failure",
        "A job that fails is an answer too: told in the backend's own words, with a kind to decide by.",
        _play_failure,
    ),
    Step(
        "a lost answer",
        "The dangerous case: a paid submission arrives, and only its answer is lost. Who repeats it pays\n"
        "twice, who gives up loses what was paid. The gateway asks what became of it, and never repeats it.",
        _play_lost_answer,
    ),
    Step("a cancel", "What is not wanted any more is stopped at its backend.", _play_cancel),
    Step("a stream", "A model's words as it says them; a streamed run stays at its backend.", _play_stream),
)


def list_steps(*, with_chain: bool) -> list[Step]:
    """Return the steps that can be played."""
    return [step for step in _STEPS if with_chain or not step.on_chain]
