"""The jobs of a node: who may see them, what is running, what has finished, and the runs themselves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import chain

from gateway.devnet.faults import Accepted
from gateway.devnet.infernet.containers import Container, ContainerError
from gateway.devnet.infernet.delegated import ChainSide
from gateway.devnet.infernet.messages import DelegatedMessage, JobMessage
from gateway.types import JSON

RUNNING_EXPIRES_SECONDS = 900.0  # a job that nobody finishes is gone from GET after 15 minutes
_logger = logging.getLogger(__name__)
_Key = tuple[str, str]  # the client's address and the job's id


class JobTable:
    """What a node remembers. Running and finished jobs are two tables: a job that is run again is in both."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._running: dict[_Key, float] = {}
        self._finished: dict[_Key, str] = {}
        self.running_on_chain = 0

    def set_running(self, key: _Key) -> None:
        """Show a job as running, for 15 minutes at most."""
        self._running[key] = self._now() + RUNNING_EXPIRES_SECONDS

    def set_finished(self, key: _Key, status: str, results: Sequence[JSON]) -> None:
        """Show a job as finished; a result that was there before is overwritten."""
        self._running.pop(key, None)
        job = {
            "id": key[1],
            "status": status,
            "intermediate_results": results[:-1],
            "result": results[-1] if results else None,
        }
        self._finished[key] = json.dumps(job)

    def find(self, address: str, ids: Sequence[str], *, intermediate: bool) -> list[JSON]:
        """Return those of the jobs that are known: the finished, then the running, in the order asked."""
        self._expire()
        keys = [(address, job_id) for job_id in ids]
        found = [json.loads(self._finished[key]) for key in keys if key in self._finished]
        found += [
            {"id": key[1], "status": "running", "intermediate_results": [], "result": None}
            for key in keys
            if key in self._running
        ]
        if not intermediate:
            for job in found:
                del job["intermediate_results"]
        return found

    def find_ids(self, address: str, *, pending: bool | None) -> list[str]:
        """Return the ids of an address, the running ones first; cut at a ":" as the node cuts them."""
        self._expire()
        running: Iterable[_Key] = self._running if pending is not False else ()
        finished: Iterable[_Key] = self._finished if pending is not True else ()
        return [job_id.split(":")[0] for peer, job_id in chain(running, finished) if peer == address]

    def count_running(self) -> int:
        """Count the running jobs of all clients, those included that nobody will finish."""
        self._expire()
        return len(self._running)

    def forget_running(self) -> None:
        """Forget what was running, as a node does when it starts."""
        self._running.clear()
        self.running_on_chain = 0

    def _expire(self) -> None:
        now = self._now()
        for key in [key for key, expires in self._running.items() if expires <= now]:
            del self._running[key]


class Runner:
    """Accepts jobs and runs each in a task of its own; there is no queue and no limit."""

    def __init__(
        self,
        containers: Mapping[str, Container],
        table: JobTable,
        journal: list[Accepted],
        container_timeout_seconds: float,
    ) -> None:
        self.containers = containers
        self._table = table
        self._journal = journal
        self._timeout_seconds = container_timeout_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, message: JobMessage) -> _Key:
        """Write a job down as accepted and running, without running it yet."""
        self._journal.append(Accepted(message.id, message.data, time.time()))
        key = (message.address, message.id)
        self._table.set_running(key)
        return key

    def start(self, message: JobMessage) -> None:
        """Accept a job and run it in the background."""
        self._spawn(self._run_job(self.accept(message), message))

    def start_delegated(self, message: DelegatedMessage, names: Sequence[str], side: ChainSide) -> None:
        """Accept a delegated subscription for the chain side; in the journal its id is owner/nonce."""
        job_id = f"{message.subscription['owner']}/{message.signature['nonce']}"
        self._journal.append(Accepted(job_id, message.data, time.time()))
        self._spawn(self._deliver(message, names, side))

    async def stop(self) -> None:
        """End all runs where they stand."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run_chain(self, names: Sequence[str], data: JSON) -> tuple[str, list[JSON]]:
        """Run containers, each with the output of the one before, up to the first failure."""
        results: list[JSON] = []
        for name in names:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    output = await self.containers[name].run(data)
                data = json.loads(json.dumps(output))  # what would have gone over HTTP
            except Exception as error:  # noqa: BLE001 - whatever happens to a container is the job's failure
                return "failed", [*results, {"container": name, "error": str(error)}]
            results.append({"container": name, "output": data})
        return "success", results

    async def _run_job(self, key: _Key, message: JobMessage) -> None:
        status, results = await self.run_chain(message.containers, message.data)
        self._table.set_finished(key, status, results)

    async def _deliver(self, message: DelegatedMessage, names: Sequence[str], side: ChainSide) -> None:
        async def output_of(data: JSON) -> JSON:
            self._table.running_on_chain += 1
            try:
                status, results = await self.run_chain(names, data)
            finally:
                self._table.running_on_chain -= 1
            if status == "failed":
                raise ContainerError(results[-1]["error"])
            return results[-1]["output"]

        try:
            await side.deliver(message.subscription, message.signature, message.data, output_of)
        except Exception:
            _logger.exception("a delegated subscription was accepted and then failed; its sender is not told")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
