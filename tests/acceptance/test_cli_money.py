"""Money on the command line, against a devnet in another process: budgets, keys, quorum, the bill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from terminal import Terminal, running_devnet

BUDGETS = """
[[budgets]]
limit = "0.005 USD"
per = "day"
backend = "hosted"
key = "alice"
"""
PRICE = 200_000  # of the devnet's hosted sentiment, in units of 1e-8 USD


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A devnet of the test's own, so that nobody else's runs are on the bill, with a budget."""
    with running_devnet(tmp_path, "--no-chain") as terminal:
        with (tmp_path / "gateway.toml").open("a") as file:
            file.write(BUDGETS)
        yield terminal
        terminal.close()


def count_accepted(terminal: Terminal, backend: str) -> int:
    return sum(line["backend"] == backend for line in terminal.ask("devnet", "journal"))


def amount(total: dict[str, Any]) -> int:
    return sum(money["amount"] for money in total["known"])


def test_a_budget_refuses_and_says_which_and_until_when(terminal: Terminal) -> None:
    words = ["run", "sentiment", "--text", "fine", "--backend", "hosted", "-q"]
    for _ in range(2):
        terminal.say(*words, "--key", "alice")
    done = terminal.type(*words, "--key", "alice")
    assert (done.returncode, done.stdout) == (3, "")
    assert "the budget of 0.005 USD per day (anew at 00:00 UTC) at hosted by alice" in done.stderr
    assert "0.004 USD of 0.005 USD is used, 0.002 USD is needed" in done.stderr
    terminal.say(*words, "--key", "bob")  # it is not his budget
    assert terminal.ask("run", "sentiment", "--text", "fine", "--key", "alice")["attempts"][0]["backend"] == (
        "node1"
    )
    (line,) = [line for line in terminal.ask("costs", "--by", "backend") if line["backend"] == "hosted"]
    assert (line["attempts"], amount(line["settled"]), line["settled"]["unknown"]) == (3, 3 * PRICE, 0)


def test_an_idempotency_key_given_twice_is_one_run_and_one_job(terminal: Terminal) -> None:
    words = ["sentiment", "--text", "fine", "--backend", "hosted", "--idempotency-key", "order 17"]
    first = terminal.ask("run", *words)
    assert terminal.ask("run", *words) == first
    assert terminal.say("submit", *words, "-q").strip() == first["id"]
    assert count_accepted(terminal, "hosted") == 1
    other = ["sentiment", "--text", "bad", "--backend", "hosted", "--idempotency-key", "order 17"]
    done = terminal.type("run", *other)
    assert done.returncode == 2
    assert f"the idempotency key 'order 17' has run {first['id']}, which is of another task" in done.stderr
    assert count_accepted(terminal, "hosted") == 1


def test_a_quorum_over_both_backends_shows_its_evidence(terminal: Terminal) -> None:
    run = terminal.ask("run", "sentiment", "--text", "fine", "--quorum", "2/2", "--agree", "numeric")
    assert (run["status"], run["output"]["label"]) == (10, "positive")
    said = run["evidence"]["runs"]
    assert {child["backend"]: child["output"] for child in said.values()} == {
        "node1": run["output"],
        "hosted": run["output"],
    }
    assert [sorted(group) for group in run["evidence"]["groups"]] == [sorted(run["children"])]
    assert terminal.say("get", run["id"]).count(", agrees with 1 more") == 2
    assert [count_accepted(terminal, name) for name in ("node1", "hosted")] == [1, 1]


def test_a_quorum_without_enough_backends_is_refused(terminal: Terminal) -> None:
    done = terminal.type("run", "upper", "--text", "x", "--quorum", "2/2")
    assert done.returncode == 3
    assert "needs 2 backends" in done.stderr


def test_a_hedge_is_one_answer_and_the_losers_cost_stays_on_the_bill(terminal: Terminal) -> None:
    run_id = terminal.say(
        "submit", "sleep", "--input", '{"seconds": 0.2}', "--hedge", "2", "--idempotent", "-q"
    ).strip()
    assert json.loads(terminal.say("watch", run_id, "-q")) == {"slept_seconds": 0.2}
    lines = terminal.ask("costs", "--by", "backend")
    assert {line["backend"]: line["attempts"] for line in lines} == {"hosted": 1, "node1": 1}


def test_the_bill_after_runs_with_what_nobody_knows(terminal: Terminal) -> None:
    assert terminal.type("costs").stderr == "nothing was tried in the last 7d\n"
    terminal.say("run", "sentiment", "--text", "fine", "--backend", "node1", "-q")
    terminal.say("run", "sentiment", "--text", "fine", "--backend", "hosted", "-q")
    terminal.say("devnet", "fault", "hosted", "answer_lost", "--on", "submit")
    terminal.say("devnet", "fault", "hosted", "server_error", "--on", "poll", "--always")
    done = terminal.type("run", "sentiment", "--text", "x", "--backend", "hosted", "--on-doubt", "fail")
    assert done.returncode == 1
    told = terminal.say("costs", "--since", "1h", "--by", "backend", "--by", "model")
    assert [" ".join(line.split()) for line in told.splitlines()] == [
        "backend model attempts quoted reserved settled",
        "hosted sentiment 2 0.004 USD 0.002 USD 0.002 USD + 1 unknown",
        "node1 sentiment 1 nothing nothing nothing",
        "all - 3 0.004 USD 0.002 USD 0.002 USD + 1 unknown",
    ]


def test_a_plan_shows_what_other_processes_learnt(terminal: Terminal) -> None:
    words = ["sentiment", "--text", "fine"]
    terminal.say("run", *words, "--backend", "hosted", "-q")
    looks = {one["backend"]: one["observed"]["looks"] for one in terminal.ask("plan", *words)["candidates"]}
    assert looks["node1"] == 0
    assert looks["hosted"] > 0.9
    (line,) = [row for row in terminal.say("plan", *words).splitlines() if row.startswith("hosted")]
    assert "0.002 USD (configured)" in line
    assert "p50 " in line


def test_a_past_run_is_planned_again_while_everything_is_down(terminal: Terminal) -> None:
    run = terminal.ask("run", "sentiment", "--text", "fine")
    for name in ("node1", "hosted"):
        terminal.say("devnet", "stop", name)
    assert [one["rank"] for one in terminal.ask("plan", "--run", run["id"])["candidates"]] == [1, 2]
    told = terminal.say("plan", "--run", run["id"][:14], "--backend", "hosted", "--max-cost", "1USD")
    assert "0.002 USD (configured)" in told
    done = terminal.type("plan", "--run", run["id"], "--ignore", "node1", "--max-cost", "0.001USD")
    assert done.returncode == 3
    assert "it may cost 0.002 USD, more than 0.001 USD" in done.stdout
    assert "it is to be ignored" in done.stdout
