"""`gateway ogpu ...` in a terminal, with real processes, against the devnet's chain."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from terminal import PATIENCE_SECONDS, Terminal, running_devnet, wait_until

from gateway.devnet.ogpu.devnet import AGENT, CLIENT

NOBODY = "0x" + "ab" * 20
EIGHT_DAYS_SECONDS = 8 * 86_400
SPEC = ("--name", "demo", "--cpu", "https://example.org/compose.yml", "--min-payment")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with running_devnet(tmp_path_factory.mktemp("ogpu"), "--chain") as terminal:
        yield terminal
        terminal.close()


def say(terminal: Terminal, *words: str) -> Any:
    return json.loads(terminal.say("ogpu", *words))


def refuse(terminal: Terminal, *words: str) -> tuple[int, str]:
    done = terminal.type("ogpu", *words)
    assert done.stdout == ""
    assert done.stderr.startswith("gateway: ")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def publish_task(terminal: Terminal, source: str, *words: str) -> str:
    """Give a run to a source; return the address of its task."""

    def list_tasks() -> list[str]:
        return [line["job_id"] for line in terminal.ask("devnet", "journal") if line["backend"] == "chain"]

    before = list_tasks()
    target = json.dumps({"source": source, "function": "echo", "payment": "0.02 OGPU"})
    given = ("--backend", "chain", "--target", target, "--input", '{"a": 1}', *words, "--quiet")
    terminal.say("submit", *given)
    wait_until(lambda: len(list_tasks()) > len(before), "the task is on the chain")
    return list_tasks()[-1]


def read_all(text: str) -> list[Any]:
    """Read JSON values that follow each other."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def test_a_source_from_its_publication_to_its_end(terminal: Terminal) -> None:
    watching = terminal.start("ogpu", "watch", "--since", "0")
    published = say(
        terminal,
        "publish-source",
        *SPEC,
        "0.01 OGPU",
        "--max-expiry",
        "1h",
        "--delivery",
        "manual_confirmation",
    )
    source = published["address"]
    found = say(terminal, "source", source)
    assert found["status"] == "ACTIVE"
    assert (found["client"], found["min_payment"], found["delivery"]) == (
        CLIENT.address,
        "0.01 OGPU",
        "MANUAL_CONFIRMATION",
    )

    say(terminal, "update-source", source, *SPEC, "0.015 OGPU", "--delivery", "manual_confirmation")
    assert say(terminal, "source", source)["min_payment"] == "0.015 OGPU"

    task = publish_task(terminal, source, "--accept", "hand")
    wait_until(lambda: bool(say(terminal, "responses", task)), "somebody answers")
    response = say(terminal, "responses", task)[0]
    assert response["payment"].endswith("OGPU")
    assert say(terminal, "task", task)["status"] == "RESPONDED"
    assert say(terminal, "confirm", response["address"])["succeeded"] is True
    assert say(terminal, "confirm", response["address"]) is None  # once is enough
    assert say(terminal, "task", task)["status"] == "FINALIZED"

    say(terminal, "inactivate-source", source)
    assert say(terminal, "source", source)["status"] == "INACTIVE"
    code, told = refuse(terminal, "inactivate-source", source)
    assert (code, "gateway:" in told) == (3, True)

    watching.send_signal(signal.SIGINT)
    told, errors = watching.communicate(timeout=PATIENCE_SECONDS)
    assert (watching.returncode, errors) == (130, "")
    names = [event["name"] for event in read_all(told) if source in event["arguments"].values()]
    assert {"SourcePublished", "SourceUpdated", "TaskPublished", "SourceStatusChanged"} <= set(names)


def test_a_task_that_nobody_has_attempted_is_taken_back(terminal: Terminal) -> None:
    terminal.say("devnet", "stop", "bots")
    source = terminal.ask("models")["echo-on-ogpu"]["chain"]["source"]
    task = publish_task(terminal, source)
    before = say(terminal, "balances")
    assert say(terminal, "task", task)["status"] == "NEW"
    say(terminal, "cancel", task)
    after = say(terminal, "balances")
    assert say(terminal, "task", task)["status"] == "CANCELED"
    assert parse(after["vault"]) - parse(before["vault"]) == pytest.approx(0.02)
    code, told = refuse(terminal, "cancel", task)
    assert (code, "only a NEW task can be cancelled" in told) == (3, True)
    terminal.say("devnet", "start", "bots")


def parse(amount: str) -> float:
    return float(amount.removesuffix(" OGPU"))


def test_money_in_the_vault_and_out_of_it(terminal: Terminal) -> None:
    def look() -> list[float]:
        found = say(terminal, "balances")
        return [parse(found[name]) for name in ("vault", "lockup", "unbonding")]

    vault, lockup, unbonding = look()
    assert say(terminal, "deposit", "10 OGPU")["succeeded"] is True
    assert look() == pytest.approx([vault + 10, lockup, unbonding])
    say(terminal, "withdraw", "4 OGPU")
    say(terminal, "lock", "3 OGPU")
    assert look() == pytest.approx([vault + 3, lockup + 3, unbonding])
    say(terminal, "unbond", "2 OGPU")
    assert look() == pytest.approx([vault + 3, lockup + 1, unbonding + 2])
    code, told = refuse(terminal, "claim")
    assert (code, "UnbondingNotElapsed" in told) == (3, True)
    say(terminal, "cancel-unbonding")
    assert look() == pytest.approx([vault + 3, lockup + 3, unbonding])

    say(terminal, "unbond", "2 OGPU")
    (url,) = [one["url"] for one in terminal.ask("devnet", "status") if one["name"] == "chain"]
    for method, params in (("evm_increaseTime", [EIGHT_DAYS_SECONDS]), ("evm_mine", [])):
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        assert "error" not in httpx2.post(url, json=question, trust_env=False).json()
    say(terminal, "claim")
    assert look() == pytest.approx([vault + 5, lockup + 1, unbonding])


def test_an_agent_is_let_in_and_out(terminal: Terminal) -> None:
    assert say(terminal, "set-agent", AGENT.address, "--revoke")["succeeded"] is True
    assert say(terminal, "set-agent", AGENT.address)["succeeded"] is True
    assert parse(say(terminal, "balances", "--account", AGENT.address)["vault"]) == 0


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["deposit", "ten"], 2, "ten"),
        (["deposit", "10 USD"], 2, "not a positive amount of OGPU"),
        (["deposit", "0 OGPU"], 2, "not a positive amount of OGPU"),
        (["withdraw", "1000000 OGPU"], 3, "InsufficientBalance"),
        (["deposit", "100000000 OGPU"], 3, "funds"),
        (["source", "0x12"], 2, "'0x12' is not an address"),
        (["source", NOBODY], 3, f"no source {NOBODY}"),
        (["task", NOBODY], 3, "there is no task at"),
        (["responses", NOBODY], 3, "there is no task at"),
        (["cancel", NOBODY], 3, "there is no task at"),
        (["confirm", NOBODY], 3, "there is no response at"),
        (["confirm", "x"], 2, "'x' is not an address"),
        (["set-agent", "somebody"], 2, "'somebody' is not an address"),
        (["balances", "--account", "me"], 2, "'me' is not an address"),
        (["publish-source", "--name", "x", "--min-payment", "1 OGPU"], 2, "docker-compose URL"),
        (["publish-source", *SPEC, "1 pound"], 2, "unknown asset 'POUND'"),
        (["publish-source", *SPEC, "1 OGPU", "--delivery", "soon"], 2, "'soon'"),
        (["publish-source", *SPEC, "1 OGPU", "--max-expiry", "long"], 2, "long"),
        (["inactivate-source", NOBODY], 3, "would revert"),
        (["watch", "--since", "x"], 2, "--since"),
        (["balances", "--backend", "node1"], 2, "'node1' is no backend of the adapter ogpu"),
        (["transfer"], 2, "transfer"),
    ],
    ids=lambda part: " ".join(part)[:40] if isinstance(part, list) else "",
)
def test_what_is_wrong_is_one_sentence_and_a_status(
    terminal: Terminal, words: list[str], status: int, told: str
) -> None:
    code, said = refuse(terminal, *words)
    assert told in said
    assert code == status, said
    assert said.count("\n") <= 2, said


def test_without_a_key_it_reads_and_says_what_it_lacks(terminal: Terminal, tmp_path: Path) -> None:
    text = (terminal.folder / "gateway.toml").read_text()
    lines = [line for line in text.splitlines() if 'private_key = "file:.gateway-devnet-client"' not in line]
    for path in terminal.folder.glob(".gateway-devnet-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "gateway.toml").write_text("\n".join(lines))
    keyless = Terminal(tmp_path)
    assert parse(say(keyless, "balances", "--account", CLIENT.address)["vault"]) > 0
    code, told = refuse(keyless, "deposit", "1 OGPU")
    assert (code, "no private_key" in told) == (3, True)


def test_without_such_a_backend_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[backends.n]\nadapter = "infernet"\nurl = "http://127.0.0.1:1"\n')
    assert refuse(Terminal(tmp_path), "balances") == (
        2,
        "gateway: --backend says which; configured with the adapter ogpu: none\n",
    )
