"""The endpoints that take, show and mark jobs."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from aiohttp import web

from gateway.devnet.faults import Fault
from gateway.devnet.infernet.calls import Call
from gateway.devnet.infernet.delegated import ChainSide
from gateway.devnet.infernet.jobs import JobTable, Runner
from gateway.devnet.infernet.messages import (
    NOT_SERIALIZABLE,
    DelegatedMessage,
    JobMessage,
    MalformedError,
    NoMatchError,
    Refusal,
    check_message,
    parse_message,
)
from gateway.devnet.infernet.streams import Streams
from gateway.devnet.infernet.wire import BadBodyError, make_json, read_json
from gateway.types import JSON

_LOCAL = ("127.0.0.1", "::1")
_DOCKER = tuple(ip_network(f"{net}.0.0/16") for net in ("172.17", "172.18", "172.19", "192.168"))

_Message = JobMessage | DelegatedMessage
_Judged = tuple[_Message, Refusal | list[str]]


class JobRoutes:
    """The job endpoints of one node. Before 1.0 they answered malformed input in other ways (`_legacy`)."""

    def __init__(
        self, version: str, table: JobTable, runner: Runner, streams: Streams, chain: ChainSide | None
    ) -> None:
        self._version = version
        self._legacy = version == "0.2.0"
        self._table = table
        self._runner = runner
        self._streams = streams
        self._chain = chain

    async def create_job(self, call: Call) -> web.StreamResponse:
        """Accept one job or one delegated subscription."""
        judged = await self._read_one(call)
        return judged if isinstance(judged, web.Response) else make_json(self._start(*judged))

    async def create_job_stream(self, call: Call) -> web.StreamResponse:
        """Accept one job and stream its output; since 1.0."""
        judged = await self._read_one(call)
        if isinstance(judged, web.Response):
            return judged
        message, _ = judged
        if isinstance(message, DelegatedMessage):
            return make_json({"error": "Streaming only supported for OffchainJob requests."}, 405)
        if call.fault is Fault.ANSWER_LOST:  # a node whose client is gone cancels the container's work
            self._runner.accept(message)
            return make_json(None)
        if call.fault in (Fault.ERROR_AFTER, Fault.GARBAGE):
            await self._streams.drain(message)
            return make_json(None)
        return await self._streams.serve(call.request, call.headers, message, call.fault)

    async def create_job_batch(self, call: Call) -> web.StreamResponse:
        """Accept many at once. What is malformed spoils the whole batch before anything is started.

        A subscription that the guardian refuses for the chain or the expiry spoils it after the others were.
        """
        try:
            body = await read_json(call.request, any_type=True)
            if not isinstance(body, list):
                return make_json(
                    {"error": "Could not parse message" if self._legacy else "Expected a list"}, 400
                )
            judged = self._judge_many(body, call.address)
        except (BadBodyError, MalformedError) as error:
            return self._answer_batch_failed(str(error))
        answers: list[JSON] = []
        for message, verdict in judged:
            if not isinstance(verdict, Refusal):
                answer = self._start(message, verdict)
                answers.extend([] if self._legacy and not answer else [answer])
            else:
                answers.append({"error": verdict.error, "params": verdict.params})
        if any(isinstance(verdict, Refusal) and not verdict.sayable for _, verdict in judged):
            return self._answer_batch_failed(NOT_SERIALIZABLE)
        return make_json(answers)

    async def get_job(self, call: Call) -> web.StreamResponse:
        """Show the jobs of the ids asked for, or list the ids of the caller's address."""
        query = call.request.rel_url.query
        ids = query.getall("id", [])
        if ids:
            intermediate = query.get("intermediate") == "true"
            return make_json(self._table.find(call.address, ids, intermediate=intermediate))
        pending = {"true": True, "false": False}.get(query.get("pending", ""))
        return make_json(self._table.find_ids(call.address, pending=pending))

    async def store_job_status(self, call: Call) -> web.StreamResponse:
        """Mark a job, without a result; meant for containers."""
        if not self._may_store_status(call.address):
            return make_json({"error": "Unauthorized"}, 403)
        failed = make_json({"error": "Could not store job status"}, 500)
        try:
            body = await read_json(call.request, any_type=True)
            if not isinstance(body, dict) or not {"id", "containers", "status"} <= body.keys():
                return failed
            job = {"id": body["id"], "containers": body["containers"], "data": {}}
            message = parse_message(job, call.address, legacy=self._legacy)
        except (BadBodyError, MalformedError):
            return failed
        key = (call.address, message.id)
        if body["status"] == "running":
            self._table.set_running(key)
        elif body["status"] in ("success", "failed"):
            self._table.set_finished(key, body["status"], [])
        else:
            return make_json({"error": "Status is invalid"}, 400)
        return make_json(None)

    def _may_store_status(self, address: str) -> bool:
        if self._legacy or address in _LOCAL:
            return True
        return self._version != "1.0.0" and any(ip_address(address) in network for network in _DOCKER)

    async def _read_one(self, call: Call) -> web.Response | tuple[_Message, list[str]]:
        """Read and judge one message; return the answer where it is not accepted."""
        try:
            body = await read_json(call.request, any_type=self._legacy)
            message, verdict = self._judge(body, call.address)
        except (BadBodyError, MalformedError) as error:
            return self._answer_malformed(error)
        if not isinstance(verdict, Refusal):
            return message, verdict
        if not verdict.sayable:
            return self._answer_malformed(MalformedError(NOT_SERIALIZABLE))
        return make_json({"error": verdict.error, "params": verdict.params}, 405)

    def _judge(self, body: JSON, address: str) -> _Judged:
        message = parse_message(body, address, legacy=self._legacy)
        return message, check_message(message, self._runner.containers, chain_enabled=self._chain is not None)

    def _judge_many(self, items: list[JSON], address: str) -> list[_Judged]:
        judged: list[_Judged] = []
        for item in items:
            try:
                judged.append(self._judge(item, address))
            except NoMatchError:
                if not self._legacy:  # there it is left out, and the positions shift
                    raise
        return judged

    def _start(self, message: _Message, names: list[str]) -> JSON:
        if isinstance(message, JobMessage):
            self._runner.start(message)
            return {"id": message.id}
        if self._chain is not None:
            self._runner.start_delegated(message, names, self._chain)
        return {}

    def _answer_malformed(self, error: BadBodyError | MalformedError) -> web.Response:
        if not self._legacy:
            return make_json({"error": f"Internal server error: {error}"}, 500)
        if isinstance(error, NoMatchError):
            return make_json({"error": "Could not parse message"}, 400)
        return make_json({"error": "Could not enqueue job"}, 500)

    def _answer_batch_failed(self, text: str) -> web.Response:
        return make_json({"error": "Could not enqueue job" + ("" if self._legacy else f":  {text}")}, 500)
