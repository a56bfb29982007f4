"""`gateway accept` and `gateway costs`, over a store and a scripted backend."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from gateway import AsyncGateway, Gateway, Run, Status, Task
from gateway.cli.costs import format_total
from gateway.cli.main import main
from gateway.store.bill import Total
from gateway.testing import FakeAdapter
from gateway.types import Money

MODELS = {"m": {"targets": {"a": {"app": "x", "cost": "2 USD"}}}}
QUICK = [(0.0, Status.COMPLETED)]


class Place:
    """A configuration, a store and one backend, as the command line finds them."""

    def __init__(self, folder: Path, adapter: FakeAdapter) -> None:
        self.adapter = adapter
        self.store = f"sqlite:///{folder / 'runs.db'}"

    def open(self) -> Gateway:
        return Gateway([self.adapter], MODELS, store=self.store)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "gateway.toml").write_text('[gateway]\nstore = "sqlite:///runs.db"\n')
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path, FakeAdapter("a", steps=QUICK, wants_accepting=True))
    monkeypatch.setattr(
        AsyncGateway, "from_config", lambda *_: AsyncGateway([place.adapter], MODELS, store=place.store)
    )
    return place


def submit_and_wait_for_answers(gateway: Gateway) -> Run:
    """Return a run whose answer wants accepting by hand."""
    run = gateway.submit(Task(model="m", input="hello", accept="hand"))
    for event in gateway.events(run.id):
        if event.snapshot is not None and event.snapshot.answers:
            break
    return gateway.get(run.id)


def test_an_answer_is_accepted_by_hand(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.open() as gateway:
        run = submit_and_wait_for_answers(gateway)
    assert run.attempt is not None
    assert run.attempt.snapshot is not None
    (answer,) = run.attempt.snapshot.answers

    assert main(["get", run.id, "--wait", "0"]) == 0
    assert f"answer {answer.id}: hello" in capsys.readouterr().out
    assert main(["accept", run.id, "another"]) == 2
    assert f"has no answer 'another'; it has: {answer.id}" in capsys.readouterr().err
    assert place.adapter.backend.confirmed == []

    assert main(["accept", run.id[:12], answer.id]) == 0
    assert capsys.readouterr().out == "hello\n"
    assert len(place.adapter.backend.confirmed) == 1
    assert main(["accept", run.id, answer.id]) == 2
    assert "had ended COMPLETED already" in capsys.readouterr().err
    assert len(place.adapter.backend.confirmed) == 1


def test_a_wish_is_stored_for_whoever_works_on_the_run(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with place.open() as gateway:
        run = submit_and_wait_for_answers(gateway)
        assert run.attempt is not None
        assert run.attempt.snapshot is not None
        words = ["accept", run.id, run.attempt.snapshot.answers[0].id, "--wait", "0", "--json"]
        status: list[int] = []
        typing = threading.Thread(target=lambda: status.append(main(words)))  # a loop of its own
        typing.start()
        typing.join()
        assert status == [0]
        told = json.loads(capsys.readouterr().out)
        assert (told["id"], told["accept_answer"]) == (run.id, words[2])
        assert gateway.wait(run.id, timeout=30).output == "hello"
    assert len(place.adapter.backend.confirmed) == 1


def test_a_run_without_answers_says_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.adapter = FakeAdapter("a")
    place.adapter.arm("never_end")
    with place.open() as gateway:
        run = gateway.submit(Task(model="m", input=1))
    assert main(["accept", run.id, "any"]) == 2
    assert "has no answer to accept (yet)" in capsys.readouterr().err


# -- costs ---------------------------------------------------------------------------------------------------


def usd(text: str) -> Money:
    return Money.parse(f"{text} USD")


@pytest.mark.parametrize(
    ("total", "told"),
    [
        (Total(), "nothing"),
        (Total(known=(usd("0.5"),)), "0.5 USD"),
        (Total(unknown=2), "2 unknown"),
        (Total(known=(Money.parse("1 EUR"), usd("0.5")), unknown=1), "1 EUR + 0.5 USD + 1 unknown"),
    ],
)
def test_a_sum_says_what_is_not_in_it(total: Total, told: str) -> None:
    assert format_total(total) == told


def test_the_costs_of_what_ran(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "nothing was tried in the last 7d\n")

    place.adapter = FakeAdapter("a", steps=QUICK)
    with place.open() as gateway:
        gateway.run(Task(model="m", input=1))
        place.adapter.arm("never_end")
        gateway.submit(Task(model="m", input=2))
        while len(place.adapter.accepted) < 2:
            threading.Event().wait(0.01)
    assert main(["costs", "--by", "backend", "--by", "model"]) == 0
    titles, line = capsys.readouterr().out.splitlines()
    assert titles.split() == ["backend", "model", "attempts", "quoted", "reserved", "settled"]
    assert " ".join(line.split()) == "a m 2 (1 under way) 4 USD 2 USD 2 USD"
    assert main(["costs", "--json"]) == 0
    (data,) = json.loads(capsys.readouterr().out)
    assert (data["backend"], data["model"], data["attempts"], data["under_way"]) == ("a", "m", 2, 1)
    assert data["settled"] == {"known": [{"amount": usd("2").amount, "asset": "USD"}], "unknown": 0}
    assert main(["costs", "--key", "nobody"]) == 0
    assert "nothing was tried" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--since", "yesterday"], "--since: 'yesterday' is not a duration"),
        (["--since", "9999999d"], "--since"),
        (["--by", "modle"], "did you mean 'model'?"),
    ],
)
def test_costs_refuses_other_words(
    words: list[str], told: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["costs", *words]) == 2
    assert told in capsys.readouterr().err
