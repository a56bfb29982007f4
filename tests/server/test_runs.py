from __future__ import annotations

import httpx2
import pytest

pytestmark = pytest.mark.anyio


async def test_a_task_is_taken_in_and_its_run_found_where_the_answer_says(client: httpx2.AsyncClient) -> None:
    taken = await client.post("/v1/runs", json={"model": "echo", "input": {"text": "hello"}})
    assert taken.status_code == 202
    assert taken.json()["status"] == "RECEIVED"
    found = await client.get(taken.headers["location"])
    assert found.status_code == 200
    assert found.json()["task"]["input"] == {"text": "hello"}


async def test_a_file_of_the_server_is_refused(client: httpx2.AsyncClient) -> None:
    task: dict[str, object] = {"model": "echo", "input": [{"picture": {"$file": {"path": "/etc/passwd"}}}]}
    refused = await client.post("/v1/runs", json=task)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "/problems/local-file"
    task["input"] = {"$file": {"data": "aGVsbG8="}}
    assert (await client.post("/v1/runs", json=task)).status_code == 202
