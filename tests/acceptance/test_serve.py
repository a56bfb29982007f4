"""`gateway serve` as a process, over the devnet: killed, ended, reloaded, with keys, with workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from served import end, get, give, is_sent, list_children, make_client, serving
from terminal import PATIENCE_SECONDS, Terminal, kill, read_until, wait_until


def test_a_killed_server_finishes_its_runs_and_pays_once(terminal: Terminal) -> None:
    with serving(terminal) as (process, client):
        run = give(client, "sleep", input={"seconds": 2, "mark": "killed"})
        wait_until(lambda: is_sent(client, run["id"]), "the job was sent")
        kill(process)
    with serving(terminal) as (_, client):
        done = get(client, run["id"])
        events = client.get(f"/v1/runs/{run['id']}/events", headers={"last-event-id": "1"}).text
    assert done["status"] == "COMPLETED"
    assert len(done["attempts"]) == 1
    assert len(terminal.list_accepted("mark", "killed")) == 1
    assert "event: end" in events


def test_an_idempotency_key_survives_a_killed_server(terminal: Terminal) -> None:
    headers = {"idempotency-key": "order-66"}
    body = {"model": "sleep", "input": {"seconds": 1, "mark": "again"}}
    with serving(terminal) as (process, client):
        first = client.post("/v1/runs", json=body, headers=headers).json()
        wait_until(lambda: is_sent(client, first["id"]), "the job was sent")
        kill(process)
    with serving(terminal) as (_, client):
        again = client.post("/v1/runs", params={"wait": 30}, json=body, headers=headers)
        assert again.json()["id"] == first["id"]
        assert again.headers["idempotent-replayed"] == "true"
        assert get(client, first["id"])["status"] == "COMPLETED"
    assert len(terminal.list_accepted("mark", "again")) == 1


def test_an_ended_server_gives_its_runs_back_and_says_nothing(terminal: Terminal) -> None:
    with serving(terminal) as (process, client):
        run = give(client, "sleep", input={"seconds": 5, "mark": "ended"})
        wait_until(lambda: is_sent(client, run["id"]), "the job was sent")
        with client.stream("GET", f"/v1/runs/{run['id']}/events") as events:
            lines = events.iter_lines()
            assert next(lines).startswith("retry")
            process.terminate()
            list(lines)  # the stream ends, and does not break off
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    terminal.say("recover")
    assert terminal.ask("get", run["id"])["output"] is not None
    assert len(terminal.list_accepted("mark", "ended")) == 1


def test_several_workers_share_the_port_and_survive_one(terminal: Terminal) -> None:
    with serving(terminal, "--workers", "2") as (process, client):
        runs = [give(client, "sentiment", input={"text": f"a fine day, {n}"}) for n in range(20)]
        slow = give(client, "sleep", input={"seconds": 2, "mark": "worker"})
        wait_until(lambda: is_sent(client, slow["id"]), "the job was sent")
        workers = list_children(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        client.close()
        with make_client(client.base_url) as again:
            for run in [*runs, slow]:
                assert get(again, run["id"])["status"] == "COMPLETED"
        wait_until(lambda: len(list_children(process.pid)) == 2, "another worker takes its place")
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
    assert len(terminal.list_accepted("mark", "worker")) == 1


def test_a_changed_configuration_is_taken_and_a_wrong_one_is_not(terminal: Terminal, tmp_path: Path) -> None:
    text = (terminal.folder / "gateway.toml").read_text(encoding="utf-8")
    path = terminal.folder / "changing.toml"
    path.write_text(text, encoding="utf-8")

    def list_models(client: httpx2.Client) -> set[str]:
        return {model["name"] for model in client.get("/v1/models").json()["models"]}

    with serving(terminal, "--config", str(path)) as (process, client):
        assert "second" not in list_models(client)
        slow = give(client, "sleep", input={"seconds": 2, "mark": "reloaded"})
        path.write_text(f'{text}\n[models.second.targets]\nnode1 = {{ containers = ["echo"] }}\n')
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "second" in list_models(client), "the new model is there")
        path.write_text("[models.second]\ntarget = 1\n")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert "did you mean 'targets'?" in read_until(process.stderr, "not taken")
        assert "second" in list_models(client)
        assert give(client, "second", wait=30, input={"a": 1})["status"] == "COMPLETED"
        assert get(client, slow["id"])["status"] == "COMPLETED"
        cancelled = give(client, "sleep", input={"seconds": 60, "mark": "reloaded-too"})
        assert client.post(f"/v1/runs/{cancelled['id']}/cancel").status_code in (200, 202)
        assert get(client, cancelled["id"])["phase"] == "failed"
    assert len(terminal.list_accepted("mark", "reloaded")) == 1


def test_beyond_this_machine_only_with_keys(terminal: Terminal, tmp_path: Path) -> None:
    path = terminal.folder / "keyed.toml"
    text = (terminal.folder / "gateway.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("runs.db", "keyed.db"), encoding="utf-8")
    refused = terminal.type("serve", "--host", "0.0.0.0", "--port", "0", "--config", str(path))
    assert refused.returncode == 2
    assert "gateway keys create" in refused.stderr
    key = terminal.say("keys", "create", "team", "--budget", "1 USD/day", "--config", str(path)).strip()
    with serving(terminal, "--host", "0.0.0.0", "--config", str(path)) as (process, client):
        assert client.get("/v1/runs").status_code == 401
        assert client.get("/healthz").status_code == 200
        headers = {"authorization": f"Bearer {key}"}
        assert client.get("/v1/runs", headers=headers).status_code == 200
        terminal.say("keys", "revoke", "team", "--config", str(path))
        wait_until(
            lambda: client.get("/v1/runs", headers=headers).status_code == 401,
            "the revoked key opens nothing",
        )
        errors = end(process)
    assert key not in errors
    assert key.encode() not in (terminal.folder / "keyed.db").read_bytes()
    assert [row["name"] for row in terminal.ask("keys", "list", "--config", str(path))] == ["team"]


def test_a_keys_budget_holds_for_its_runs_alone(terminal: Terminal) -> None:
    path = terminal.folder / "budget.toml"
    text = (terminal.folder / "gateway.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("runs.db", "budget.db"), encoding="utf-8")
    words = ("--config", str(path))
    poor = terminal.say("keys", "create", "poor", "--budget", "0.003 USD/day", *words).strip()
    rich = terminal.say("keys", "create", "rich", *words).strip()
    with serving(terminal, *words) as (_, client):

        def run(key: str) -> Any:
            body = {"model": "sentiment", "input": {"text": "fine"}, "backend": "hosted"}
            headers = {"authorization": f"Bearer {key}"}
            return client.post("/v1/runs", params={"wait": 30}, json=body, headers=headers)

        assert run(poor).json()["status"] == "COMPLETED"  # 0.002 USD
        over = run(poor)
        assert (over.status_code, over.json()["type"]) == (402, "/problems/budget-exceeded")
        assert [reason["rule"] for reason in over.json()["reasons"]] == ["budget"]
        assert "0.002 USD of 0.003 USD is used" in over.json()["detail"]
        assert run(rich).json()["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--port", "1"), "can't listen on"),
        (("--host", "no.such.host.invalid"), "can't listen on"),
        (("--workers", "0"), "--workers"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_what_can_not_begin_says_why_in_one_sentence(
    terminal: Terminal, words: tuple[str, ...], said: str
) -> None:
    if words == ("--port", "1") and os.geteuid() == 0:
        pytest.skip("who is root may listen anywhere")
    refused = terminal.type("serve", *words)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
