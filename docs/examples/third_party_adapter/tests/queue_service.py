"""A queue.example of our own on loopback, for the tests: the standard library's HTTP server and a clock."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "let-me-in"
SECONDS = {"upper": 0.05, "broken": 0.05, "slow": 3600.0}


class QueueService:
    """Runs jobs by the clock. `accepted` lists the ids of all submissions that it took."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.loses_next_answer = False
        self._port = 0
        self.start()

    def start(self) -> None:
        """Listen, after a stop on the same port as before."""
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._port = self._server.server_port
        self.url = f"http://127.0.0.1:{self._port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Go away; jobs are kept."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def lose_answer(self) -> None:
        """Take the next submission and hang up without an answer."""
        self.loses_next_answer = True

    def put(self, job_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Take a job."""
        if body["app"] not in SECONDS:
            return 422, {"error": f"no app {body['app']!r}"}
        self.accepted.append(job_id)
        self.jobs.setdefault(job_id, {**body, "began": time.monotonic(), "stopped": False})
        return 201, self.describe(job_id)

    def stop_job(self, job_id: str) -> tuple[int, Any]:
        """Stop a job that has not ended."""
        if job_id not in self.jobs:
            return 404, {"error": "no such job"}
        if self.describe(job_id)["state"] not in {"waiting", "working"}:
            return 409, {"error": "it has ended"}
        self.jobs[job_id]["stopped"] = True
        return 200, self.describe(job_id)

    def describe(self, job_id: str) -> dict[str, Any]:
        """Return a job as the API shows it."""
        job = self.jobs[job_id]
        if job["stopped"]:
            return {"id": job_id, "state": "stopped"}
        if time.monotonic() - job["began"] < SECONDS[job["app"]]:
            return {"id": job_id, "state": "working"}
        if job["app"] == "broken":
            return {"id": job_id, "state": "broken", "error": "the app crashed"}
        return {"id": job_id, "state": "done", "output": {"text": job["input"]["text"].upper()}}


class _Handler(BaseHTTPRequestHandler):
    service: QueueService

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/health":
            return self.answer(200, {"version": "1.2", "apps": sorted(SECONDS)})
        ids = parse_qs(url.query).get("ids", [""])[0].split(",")
        known = [self.service.describe(job_id) for job_id in ids if job_id in self.service.jobs]
        return self.answer(200, {"jobs": known[::-1]})  # in any order but the one asked for

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "wrong token"})
        answer = self.service.put(self.path.removeprefix("/jobs/"), body)
        if self.service.loses_next_answer:
            self.service.loses_next_answer = False
            return None
        return self.answer(*answer)

    def do_POST(self) -> None:
        self.answer(*self.service.stop_job(self.path.split("/")[2]))

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
