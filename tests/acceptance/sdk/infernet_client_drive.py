"""Drive an Infernet node with the official client, infernet-client 1.4.0, and check every answer.

Usage: python infernet_client_drive.py http://127.0.0.1:4000 [check ...]

With names, only those checks are made: not everything that speaks a node's API has all of it.
The node must have the devnet's containers. Prints one line per call; the exit status is 1 at the first answer
that is not the expected one. It runs in an environment of its own (infernet_client.txt beside this file) and
imports nothing of the gateway. It makes about 30 requests: the node's default rate limit is enough.
"""
# ruff: noqa: T201 - its lines are its result

from __future__ import annotations

import asyncio
import base64
import sys
import traceback
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from infernet_client import NodeClient
from infernet_client.error import APIError

ID_LENGTH = 36  # of a uuid
SCORES = {  # as published with VADER (README and demo of Hutto & Gilbert's vaderSentiment)
    "VADER is smart, handsome, and funny.": {"neg": 0.0, "neu": 0.254, "pos": 0.746, "compound": 0.8316},
    "VADER is not smart, handsome, nor funny.": {"neg": 0.646, "neu": 0.354, "pos": 0.0, "compound": -0.7424},
    "The book was good.": {"neg": 0.0, "neu": 0.508, "pos": 0.492, "compound": 0.4404},
}


def check(what: str, got: Any, expected: Any) -> None:
    """Fail unless it is what was expected (an assert would vanish under -O)."""
    if got != expected:
        raise AssertionError(f"{what}: got {got!r}, expected {expected!r}")


def pick_scores(job: Any) -> dict[str, float]:
    """Return VADER's four numbers from a finished job."""
    output = job["result"]["output"]["output"]
    return {key: output[key] for key in ("neg", "neu", "pos", "compound")}


async def check_health(client: NodeClient) -> str:
    healthy = await client.health()
    check("health", healthy, True)
    return "healthy"


async def check_info(client: NodeClient) -> str:
    info = await client.get_info()
    check("version", info["version"], "1.4.0")
    check("chain", info["chain"], {"address": "", "enabled": False})
    check(
        "sentiment is there", any(c["id"] == "sentiment" and c["external"] for c in info["containers"]), True
    )
    return f"node {info['version']} with {len(info['containers'])} containers"


async def check_resources(client: NodeClient) -> str:
    check("resources", "sentiment" in await client.get_resources(), True)
    check("support of vader", (await client.check_model_support("vader"))["sentiment"], {"supported": True})
    check("support of bert", (await client.check_model_support("bert"))["sentiment"], {"supported": False})
    return "sentiment has vader"


async def check_job(client: NodeClient) -> str:
    text, scores = next(iter(SCORES.items()))
    job_id = await client.request_job({"containers": ["sentiment"], "data": {"text": text}})
    job = await client.get_job_result_sync(job_id)
    check("id", job["id"], job_id)
    check("status", job["status"], "success")
    check("container", job["result"]["container"], "sentiment")
    check("scores", pick_scores(job), scores)
    return f"compound {scores['compound']} for {text!r}"


async def check_chain(client: NodeClient) -> str:
    job_id = await client.request_job({"containers": ["echo", "upper"], "data": {"text": "chained"}})
    jobs = await client.get_job_results([job_id], intermediate=True)
    while jobs[0]["status"] == "running":
        await asyncio.sleep(0.2)
        jobs = await client.get_job_results([job_id], intermediate=True)
    check("steps", jobs[0]["intermediate_results"], [{"container": "echo", "output": {"text": "chained"}}])
    check("result", jobs[0]["result"], {"container": "upper", "output": {"output": "CHAINED"}})
    return "echo, upper"


async def check_failure(client: NodeClient) -> str:
    job_id = await client.request_job({"containers": ["fail"], "data": {"error": "on purpose"}})
    job = await client.get_job_result_sync(job_id)
    check("status", job["status"], "failed")
    check("container", job["result"]["container"], "fail")
    check("error", "on purpose" in job["result"]["error"], True)
    return "failed, on purpose"


async def check_refusal(client: NodeClient) -> str:
    try:
        await client.request_job({"containers": ["nope"], "data": {}})
    except APIError as error:
        check("refusal", (error.status_code, error.message), (405, "Container not supported"))
        return "405, Container not supported"
    raise AssertionError("an unknown container was accepted")


async def check_batch(client: NodeClient) -> str:
    jobs: list[Any] = [{"containers": ["sentiment"], "data": {"text": text}} for text in SCORES]
    answers: list[Any] = await client.request_jobs([*jobs, {"containers": ["nope"], "data": {}}])
    check("refused", answers[-1], {"error": "Container not supported", "params": {"container": "nope"}})
    ids = [answer["id"] for answer in answers[:-1]]
    await client.get_job_result_sync(ids[-1])
    found = {job["id"]: pick_scores(job) for job in await client.get_job_results(ids)}
    for job_id, (text, scores) in zip(ids, SCORES.items(), strict=True):
        check(text, found[job_id], scores)
    return f"{len(ids)} accepted and right, 1 refused"


async def read_stream(client: NodeClient, data: dict[str, Any]) -> tuple[str, list[bytes]]:
    """Return a stream's job id and pieces.

    This client takes the first read of its socket as the id, so on a busy machine output sticks to the id and
    is mangled (in all its versions, with real nodes as well); then the stream is asked for again.
    """
    request: Any = {"containers": ["words"], "data": data}
    for _ in range(5):
        job_id, *pieces = [piece async for piece in client.request_stream(request)]
        if len(job_id) == ID_LENGTH:
            return job_id, pieces
        print("again request_stream: the client took output for a part of the id")
    raise AssertionError("the client never separated the id from the output")


async def check_stream(client: NodeClient) -> str:
    text = "one word after the other"
    job_id, pieces = await read_stream(client, {"text": text})
    said = b"".join(pieces).decode()
    check("text", said, text)
    jobs = await client.get_job_results([job_id])
    check("job", jobs[0]["result"], {"container": "words", "output": {"output": text}})
    return repr(said)


async def check_binary_stream(client: NodeClient) -> str:
    raw = bytes(range(256))
    job_id, pieces = await read_stream(client, {"base64": base64.b64encode(raw).decode()})
    check("bytes", b"".join(pieces), raw)
    jobs = await client.get_job_results([job_id])
    check("what is not UTF-8 is a failed job", jobs[0]["status"], "failed")
    return f"{len(raw)} bytes came, and the job is failed for not being UTF-8"


async def check_status(client: NodeClient) -> str:
    request: Any = {"containers": ["echo"], "data": {}}
    await client.record_status("recorded-by-hand", "running", request)
    check("pending", "recorded-by-hand" in await client.get_jobs(pending=True), True)
    await client.record_status("recorded-by-hand", "success", request)
    check("not pending", "recorded-by-hand" in await client.get_jobs(pending=True), False)
    check("completed", "recorded-by-hand" in await client.get_jobs(pending=False), True)
    jobs = await client.get_job_results(["recorded-by-hand"])
    check("job", jobs, [{"id": "recorded-by-hand", "result": None, "status": "success"}])
    return "running, then success without a result"


CHECKS: list[Callable[[NodeClient], Awaitable[str]]] = [
    check_health,
    check_info,
    check_resources,
    check_job,
    check_chain,
    check_failure,
    check_refusal,
    check_batch,
    check_stream,
    check_binary_stream,
    check_status,
]


async def drive(url: str, wanted: list[str]) -> int:
    """Run the checks against the node; return the exit status."""
    client = NodeClient(url)
    print(f"infernet-client {version('infernet-client')} at {url}")
    for run in CHECKS:
        name = run.__name__.removeprefix("check_")
        if wanted and name not in wanted:
            continue
        try:
            said = await run(client)
        except Exception:  # noqa: BLE001 - whatever goes wrong is a failed check, and shown
            traceback.print_exc()
            print(f"FAILED {name}")
            return 1
        print(f"ok {name}: {said}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(asyncio.run(drive(sys.argv[1].rstrip("/"), sys.argv[2:])))
