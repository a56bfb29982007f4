"""What both versions of the official SDK are made to do against a stand-in, and what has to come of it.

The clients are passed in, so this module imports nothing of the SDK. Each check prints one line; the first
that does not hold raises AssertionError, so that the script which called it ends with a status other than 0.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SENTENCE = "VADER is smart, handsome, and funny."
PUBLISHED = {"neg": 0.0, "neu": 0.254, "pos": 0.746, "compound": 0.8316}
WORDS = "the quick brown fox jumps over the lazy dog"
CONTENT = b"12345678901"
COMPLETED, CANCELLED = 10, 12


def check(name: str, holds: object) -> None:
    """Print the name of a check that holds; raise AssertionError for one that does not."""
    if not holds:
        raise AssertionError(name)
    sys.stdout.write(f"ok  {name}\n")
    sys.stdout.flush()


def read_code(error: Any) -> str:
    """Return the API's error code out of a problem+json body; 0.7.8 does not read it itself."""
    return str(json.loads(error.response_body)["type"].rsplit("/", 1)[-1])


def has_published_scores(result: Any) -> bool:
    """Say whether a result carries the scores that VADER's authors publish for SENTENCE."""
    return all(result["output"][name] == score for name, score in PUBLISHED.items())


def make_runs() -> dict[str, dict[str, Any]]:
    """Return the runs that the drives share."""
    return {
        "sentiment": {"app": "demo/sentiment@1a2b", "input": {"text": SENTENCE}},
        "long": {"app": "demo/sleep", "input": {"seconds": 120}},
        "failing": {"app": "demo/fail", "input": {"message": "no luck today"}},
        "missing": {"app": "demo/no-such-app", "input": {}},
        "secret": {"app": "demo/needs-secret", "input": {}},
    }


def make_words_run() -> dict[str, Any]:
    """Return a run that begins in a second: 0.36.0 loses what was said before it has the stream."""
    begin_at = datetime.now(UTC) + timedelta(seconds=1)
    words = {"text": WORDS, "delay_seconds": 0.02}
    return {"app": "demo/words", "input": words, "run_at": begin_at.isoformat()}


class SyncDrive:
    """Drives a synchronous client. `unwrap` takes the DTO out of what `get` returns."""

    def __init__(self, client: Any, sdk: Any, unwrap: Callable[[Any], Any]) -> None:
        self.client = client
        self.sdk = sdk
        self.unwrap = unwrap
        self.runs = make_runs()

    def drive(self) -> None:
        """Do everything."""
        self.drive_runs()
        self.drive_cancel()
        self.drive_session()
        self.drive_files()
        self.drive_refusals()

    def drive_runs(self) -> None:
        """Run and wait, run and get, run and stream, fail."""
        check(
            "sync run(wait): published scores", has_published_scores(self.client.run(self.runs["sentiment"]))
        )
        task = self.client.run(self.runs["sentiment"], wait=False)
        check("sync run(wait=False): an id, input echoed", task["id"] and task["input"] == {"text": SENTENCE})
        done = self.client.wait_for_completion(task["id"])
        check("sync wait_for_completion: same task, published scores", has_published_scores(done))
        got = self.unwrap(self.client.tasks.get(task["id"]))
        check("sync tasks.get: completed", got["status"] == COMPLETED and has_published_scores(got))
        updates = list(self.client.run(make_words_run(), stream=True))
        outputs = [update["output"]["response"] for update in updates if update.get("output")]
        check("sync run(stream): output grows word by word", len(set(outputs)) > 1)
        check("sync run(stream): ends completed, whole", updates[-1]["status"] == COMPLETED)
        check("sync run(stream): the final output", updates[-1]["output"]["response"] == WORDS)
        late = list(self.client.tasks.stream(task["id"]))
        check("sync tasks.stream of an ended task: snapshot and end", has_published_scores(late[-1]))
        error = catch(RuntimeError, lambda: self.client.run(self.runs["failing"]))
        check("sync run of a failing app: its error text", str(error) == "no luck today")

    def drive_cancel(self) -> None:
        """Cancel a running task, then once more."""
        task = self.client.run(self.runs["long"], wait=False)
        self.client.cancel(task["id"])
        error = catch(RuntimeError, lambda: self.client.wait_for_completion(task["id"]))
        check("sync cancel: waiting tells", "cancelled" in str(error).lower())
        check("sync cancel: get tells", self.unwrap(self.client.get_task(task["id"]))["status"] == CANCELLED)
        again = catch(self.sdk.APIError, lambda: self.client.tasks.cancel(task["id"]))
        check("sync cancel of an ended task: 409", again.status_code == 409)

    def drive_session(self) -> None:
        """Keep a value over the calls of one session."""
        first = {"function": "set_value", "input": {"key": "color", "value": "blue"}}
        with self.client.session("infsh/session-test", **first) as session:
            value = session.call("get_value", {"key": "color"})
            check("sync session: the value is kept", value["output"]["value"] == "blue")
            counts = [session.call("increment", {"key": "n"})["output"]["value"] for _ in range(2)]
            check("sync session: increments add up", counts == [1, 2])
            check("sync session: info", session.info()["call_count"] == 4)
            check("sync session: keepalive", session.keepalive()["status"] == "active")
            listed = [item["id"] for item in self.client.sessions.list()]
            check("sync sessions.list: it is there", session.session_id in listed)
        call = {"app": "infsh/session-test", "function": "get_all", "session": session.session_id}
        ended = catch(self.sdk.APIError, lambda: self.client.run(call))
        check("sync run in an ended session: 410", ended.status_code == 410)
        check("sync run in an ended session: its code", read_code(ended) == "SESSION_ENDED")
        missing = catch(self.sdk.APIError, lambda: self.client.sessions.get("sess_none"))
        check(
            "sync sessions.get of none: 404",
            (missing.status_code, read_code(missing)) == (404, "SESSION_NOT_FOUND"),
        )

    def drive_files(self) -> None:
        """Upload bytes, a path, a data URI."""
        options = self.sdk.UploadFileOptions(filename="digits.txt", content_type="text/plain")
        uploaded = self.client.files.upload(CONTENT, options)
        check("sync files.upload: named and typed", uploaded["filename"] == "digits.txt")
        result = self.client.run({"app": "demo/file-length", "input": {"file": uploaded["uri"]}})
        check("sync run with an uploaded file", result["output"] == {"length": len(CONTENT)})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "digits.bin"
            path.write_bytes(CONTENT * 3)
            result = self.client.run({"app": "demo/file-length", "input": {"file": str(path)}})
        check("sync run with a path, uploaded by the SDK", result["output"] == {"length": 3 * len(CONTENT)})
        data_uri = "data:text/plain;base64,MTIzNA=="
        result = self.client.run({"app": "demo/file-length", "input": {"file": data_uri}})
        check("sync run with a data URI", result["output"] == {"length": 4})

    def drive_refusals(self) -> None:
        """Ask for what is refused."""
        missing = catch(self.sdk.APIError, lambda: self.client.run(self.runs["missing"]))
        check(
            "sync run of an unknown app: 404", (missing.status_code, read_code(missing)) == (404, "not_found")
        )
        bad = catch(self.sdk.APIError, lambda: self.client.run({"app": "demo/sentiment", "input": {}}))
        check("sync run with bad input: 400", (bad.status_code, read_code(bad)) == (400, "validation_error"))
        unmet = catch(self.sdk.RequirementsNotMetError, lambda: self.client.run(self.runs["secret"]))
        check("sync run without its secret: what is missing", unmet.errors[0].key == "DEMO_TOKEN")
        check("sync run without its secret: what to do", unmet.errors[0].action.type == "add_secret")


class AsyncDrive:
    """Drives an asynchronous client."""

    def __init__(self, client: Any, sdk: Any, unwrap: Callable[[Any], Any]) -> None:
        self.client = client
        self.sdk = sdk
        self.unwrap = unwrap
        self.runs = make_runs()

    async def drive(self) -> None:
        """Do everything."""
        await self.drive_runs()
        await self.drive_cancel()
        await self.drive_session()
        await self.drive_files()
        await self.drive_refusals()

    async def drive_runs(self) -> None:
        """Run and wait, run and get, run and stream, fail."""
        result = await self.client.run(self.runs["sentiment"])
        check("async run(wait): published scores", has_published_scores(result))
        task = await self.client.run(self.runs["sentiment"], wait=False)
        done = await self.client.wait_for_completion(task["id"])
        check("async run(wait=False), wait_for_completion", has_published_scores(done))
        got = self.unwrap(await self.client.tasks.get(task["id"]))
        check("async tasks.get: completed", got["status"] == COMPLETED and has_published_scores(got))
        updates = [update async for update in await self.client.run(make_words_run(), stream=True)]
        outputs = [update["output"]["response"] for update in updates if update.get("output")]
        check("async run(stream): output grows word by word", len(set(outputs)) > 1)
        check("async run(stream): the final output", updates[-1]["output"]["response"] == WORDS)
        error = await catch_async(RuntimeError, self.client.run(self.runs["failing"]))
        check("async run of a failing app: its error text", str(error) == "no luck today")

    async def drive_cancel(self) -> None:
        """Cancel a running task."""
        task = await self.client.run(self.runs["long"], wait=False)
        await self.client.cancel(task["id"])
        error = await catch_async(RuntimeError, self.client.wait_for_completion(task["id"]))
        check("async cancel: waiting tells", "cancelled" in str(error).lower())

    async def drive_session(self) -> None:
        """Keep a value over the calls of one session."""
        first = {"function": "set_value", "input": {"key": "color", "value": "green"}}
        async with await self.client.session("infsh/session-test", **first) as session:
            value = await session.call("get_value", {"key": "color"})
            check("async session: the value is kept", value["output"]["value"] == "green")
            check("async session: info", (await session.info())["status"] == "active")
        info = await self.client.sessions.get(session.session_id)
        check("async session: ended", info["status"] == "ended")

    async def drive_files(self) -> None:
        """Upload bytes."""
        uploaded = await self.client.files.upload(CONTENT)
        result = await self.client.run({"app": "demo/file-length", "input": {"file": uploaded["uri"]}})
        check("async run with an uploaded file", result["output"] == {"length": len(CONTENT)})

    async def drive_refusals(self) -> None:
        """Ask for what is refused."""
        missing = await catch_async(self.sdk.APIError, self.client.run(self.runs["missing"]))
        check("async run of an unknown app: 404", missing.status_code == 404)
        unmet = await catch_async(self.sdk.RequirementsNotMetError, self.client.run(self.runs["secret"]))
        check("async run without its secret", unmet.errors[0].key == "DEMO_TOKEN")


def catch(kind: type[Exception], act: Callable[[], Any]) -> Any:
    """Return the exception that `act` raises; AssertionError if it raises none of this kind."""
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


async def catch_async(kind: type[Exception], act: Any) -> Any:
    """Return the exception that awaiting `act` raises; AssertionError if it raises none of this kind."""
    try:
        await act
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
