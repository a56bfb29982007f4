"""Every limit can be said on the command line, and what contradicts is refused before anything is sent."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import AsyncGateway, Gateway, Limits, Status, Task
from gateway.cli.limit_words import get_given
from gateway.cli.main import main
from gateway.cli.parser import Parser
from gateway.cli.task_words import add_task_arguments, get_backend, make_task
from gateway.testing import FakeAdapter
from gateway.types import Money

CONFIG = """\
[gateway]
store = "sqlite:///runs.db"
[backends.node1]
adapter = "infernet"
url = "http://127.0.0.1:9"
[models.sentiment.targets]
node1 = { containers = ["sentiment"] }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration whose only backend is down."""
    (tmp_path / "gateway.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parse(*words: str) -> Task:
    parser = Parser()
    add_task_arguments(parser)
    return make_task(parser.parse_args(["m", "--text", "x", *words]))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--only a,b", "only", ("a", "b")),
        ("--ignore a", "ignore", ("a",)),
        ("--order b,a", "order", ("b", "a")),
        ("--require cancel,recall", "require", ("cancel", "recall")),
        ("--sort fastest", "sort", "fastest"),
        ("--max-cost 1USD", "max_cost", Money.parse("1 USD")),
        ("--value-of-time 3EUR", "value_of_time", Money.parse("3 EUR")),
        ("--deadline 2m", "deadline", timedelta(minutes=2)),
        ("--max-attempts 3", "max_attempts", 3),
        ("--on-doubt fail", "on_doubt", "fail"),
        ("--on-failed next", "on_failed", "next"),
        ("--when-all-open wait", "when_all_open", "wait"),
        ("--explore always", "explore", "always"),
        ("--hedge 2", "hedge", 2),
        ("--quorum 2/3", "quorum", (2, 3)),
        ("--agree numeric", "agree", "numeric"),
        ("--idempotent", "idempotent", True),
    ],
)
def test_each_limit_has_its_word(words: str, name: str, value: Any) -> None:
    assert parse(*words.split()).limits == Limits(**{name: value})


def test_only_what_is_given_is_set() -> None:
    parser = Parser()
    add_task_arguments(parser)
    args = parser.parse_args(["m"])
    assert get_given(args) == {}
    assert get_backend(args) == "auto"
    known = {field.name for field in fields(Limits)}
    assert known - {name for name in known if hasattr(args, name)} == {"doubt_wait", "weights"}


def test_accept_is_the_tasks() -> None:
    assert (parse().accept, parse("--accept", "cheapest").accept) == ("first", "cheapest")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--hedge 2", "hedge=2 may pay 2 times: it needs idempotent=true"),
        ("--hedge 0", "hedge is 0: it counts backends"),
        ("--hedge 2 --quorum 1/2 --idempotent", "a run has one of them"),
        ("--quorum 3/2", "must be (k, n) with 1 <= k <= n"),
        ("--quorum two", "--quorum: 'two' is no quorum; write it as 2/3"),
        ("--agree exact", "means nothing without a quorum"),
        ("--agree roughly", "there is no --agree 'roughly'; known: exact, numeric"),
        ("--on-doubt resubmit", "it needs a max_cost"),
        ("--on-doubt wiat", "did you mean 'wait'?"),
        ("--only node1 --ignore node1", "name the same backend"),
        ("--order node1 --ignore node1", "name the same backend"),
        ("--only nod1", "did you mean 'node1'?"),
        ("--require flying", "there is no feature 'flying'"),
        ("--backend auto:fastest --sort cheapest", "contradict each other"),
        ("--sort fastest --value-of-time 1USD", 'is used by sort="balanced" alone'),
        ("--value-of-time lots", "--value-of-time"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan", "submit"])
def test_what_contradicts_is_one_sentence_and_status_2(
    command: str, words: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "sentiment", "--text", "x", *words.split()]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert told in said.err
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


# -- a past run's plan ---------------------------------------------------------------------------------------


@pytest.fixture
def run_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run in the store, planned over two backends; whoever asks later finds both of them down."""
    a, b = FakeAdapter("a", steps=[(0.0, Status.COMPLETED)]), FakeAdapter("b")
    targets = {"a": {"app": "x", "cost": "2 USD"}, "b": {"app": "x", "cost": "3 USD"}}
    (folder / "gateway.toml").write_text('[gateway]\nstore = "sqlite:///runs.db"\n')
    store = f"sqlite:///{folder / 'runs.db'}"
    monkeypatch.setattr(
        AsyncGateway,
        "from_config",
        lambda *_: AsyncGateway([a, b], {"m": {"targets": targets}}, store=store),
    )
    with Gateway([a, b], {"m": {"targets": targets}}, store=store) as gateway:
        run = gateway.run(Task(model="m", input=1, limits=Limits(max_attempts=3)))
    a.backend.is_down = b.backend.is_down = True
    return run.id


def plan(
    capsys: pytest.CaptureFixture[str], *words: str, status: int = 0
) -> dict[str, tuple[int, str | None]]:
    assert main(["plan", *words, "--json"]) == status
    found = json.loads(capsys.readouterr().out)
    return {one["backend"]: (one["rank"], one["removed_by"]) for one in found["candidates"]}


def test_a_past_run_is_planned_again_with_what_was_known_then(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(capsys, "--run", run_id) == {"a": (1, None), "b": (2, None)}
    assert plan(capsys, "--run", run_id[:12], "--order", "b") == {"b": (1, None), "a": (2, None)}
    assert plan(capsys, "--run", run_id, "--max-cost", "2.5USD") == {"a": (1, None), "b": (0, "max_cost")}
    assert plan(capsys, "--run", run_id, "--backend", "b") == {"b": (1, None)}
    both = plan(capsys, "--run", run_id, "--max-cost", "1USD", status=3)
    assert both == {"a": (0, "max_cost"), "b": (0, "max_cost")}


def test_the_table_shows_quote_score_parts_and_rule(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--run", run_id, "--ignore", "a"]) == 0
    head, titles, first, second = capsys.readouterr().out.splitlines()
    assert head == "sorted by: balanced"
    assert titles.split() == ["backend", "rank", "quote", "score", "made", "of", "removed", "by", "reason"]
    assert first.startswith("b        1     3 USD (configured)  3      price 3,")
    assert second.split("  ")[-1].strip() == "it is to be ignored"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["m"], "--run plans a past run again"),
        (["--text", "x"], "--run plans a past run again"),
        (["--hedge", "2"], "it needs idempotent=true"),
        (["--only", "c"], "there is no backend 'c'"),
    ],
)
def test_a_replay_refuses_what_it_can_not_be_given(
    words: list[str], told: str, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--run", run_id, *words]) == 2
    assert told in capsys.readouterr().err


def test_a_replay_of_no_run(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--run", "run_unknown"]) == 2
    assert "there is no run run_unknown" in capsys.readouterr().err
