"""The command line against a devnet in another process."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import PATIENCE_SECONDS, Terminal, kill, read_until

SENTENCE = "VADER is smart, handsome, and funny."
SCORES = {"label": "positive", "neg": 0.0, "neu": 0.254, "pos": 0.746, "compound": 0.8316}


@pytest.mark.parametrize("backend", ["auto", "node1", "hosted", "auto:cheapest", "hosted,node1"])
def test_run_prints_the_answer_alone_on_stdout(terminal: Terminal, backend: str) -> None:
    done = terminal.type("run", "sentiment", "--text", SENTENCE, "--backend", backend)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == SCORES
    assert "attempt 1 at" in done.stderr
    assert "\x1b" not in done.stderr  # plain lines where there is no terminal
    assert "COMPLETED at" in done.stderr.splitlines()[-1]


def test_run_as_json_is_the_whole_run_and_nothing_else(terminal: Terminal) -> None:
    run = terminal.ask("run", "sentiment", "--backend", "hosted", given=json.dumps({"text": SENTENCE}))
    assert run["output"] == SCORES
    assert [attempt["backend"] for attempt in run["attempts"]] == ["hosted"]
    assert run["attempts"][0]["cost"]["quoted"] == {"amount": 200_000, "asset": "USD"}


def test_quiet_says_nothing_but_the_answer(terminal: Terminal) -> None:
    done = terminal.type("run", "upper", "--text", "loud", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "LOUD\n", "")


@pytest.mark.parametrize("backend", ["node1", "hosted"])
def test_stream_writes_pieces_as_they_come(terminal: Terminal, backend: str) -> None:
    given = json.dumps({"text": "one two three", "delay_seconds": 0.3})
    words = ["run", "words", "--input", given, "--stream", "--backend", backend, "-q"]
    process = terminal.start(*words)
    assert process.stdout is not None
    first = process.stdout.read(3)
    assert process.poll() is None  # the first piece came before the end
    assert first + process.stdout.read() == "one two three\n"
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (errors, process.returncode) == ("", 0)


def test_a_file_reaches_the_backend_as_a_file(terminal: Terminal) -> None:
    (terminal.folder / "data.bin").write_bytes(b"\0" * 1234)
    run = terminal.ask("run", "file-length", "--file", "file=data.bin")
    assert run["output"] == {"length": 1234}


def test_a_target_of_its_own(terminal: Terminal) -> None:
    target = json.dumps({"containers": ["upper"]})
    run = terminal.ask("run", "--target", target, "--backend", "node1", "--text", "own")
    assert run["output"] == {"output": "OWN"}


def test_a_failed_run_is_status_1_and_one_sentence(terminal: Terminal) -> None:
    done = terminal.type("run", "fail", "--input", '{"error": "out of memory"}', "--backend", "node1", "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gateway: run run_")
    assert "out of memory" in done.stderr
    assert done.stderr.count("\n") == 1


def test_submit_get_watch_runs(terminal: Terminal) -> None:
    run_id = terminal.say("submit", "sleep", "--input", '{"seconds": 1}', "--backend", "hosted").strip()
    assert run_id.startswith("run_")
    assert run_id in [run["id"] for run in terminal.ask("runs", "--model", "sleep", "--limit", "5")]
    assert json.loads(terminal.say("watch", run_id[:16])) == {"slept_seconds": 1}
    assert "COMPLETED" in terminal.say("get", run_id)
    run = terminal.ask("get", run_id)
    assert (run["id"], run["output"]) == (run_id, {"slept_seconds": 1})


def test_watch_follows_a_run_of_another_process(terminal: Terminal) -> None:
    process = terminal.start("run", "sleep", "--input", '{"seconds": 2}', "--backend", "node1")
    run_id = read_until(process.stderr, "run run_").split()[-1]
    read_until(process.stderr, "submitted")
    watched = terminal.type("watch", run_id)
    assert watched.returncode == 0
    assert json.loads(watched.stdout) == {"slept_seconds": 2}
    answer, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, json.loads(answer)) == (0, {"slept_seconds": 2})


def test_cancel(terminal: Terminal) -> None:
    run_id = terminal.say("submit", "sleep", "--input", '{"seconds": 600}', "--backend", "hosted").strip()
    assert "is CANCELLED" in terminal.say("cancel", run_id)
    done = terminal.type("get", run_id)
    assert done.returncode == 1
    assert "CANCELLED" in done.stdout
    assert "had ended CANCELLED already" in terminal.say("cancel", run_id)


def test_cancel_reaches_a_run_of_another_process(terminal: Terminal) -> None:
    process = terminal.start("run", "sleep", "--input", '{"seconds": 600}', "--backend", "hosted")
    run_id = read_until(process.stderr, "run run_").split()[-1]
    read_until(process.stderr, "submitted")
    terminal.say("cancel", run_id)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "ended CANCELLED" in errors


def test_waiting_may_end_before_the_run(terminal: Terminal) -> None:
    given = '{"seconds": 3}'
    done = terminal.type("run", "sleep", "--input", given, "--backend", "hosted", "--timeout", "0.5", "-q")
    assert (done.returncode, done.stdout) == (4, "")
    assert "the run goes on: `gateway watch run_" in done.stderr
    run_id = done.stderr.split("`gateway watch ")[1].split("`")[0]
    assert json.loads(terminal.say("watch", run_id)) == {"slept_seconds": 3}


def test_ctrl_c_leaves_the_run_and_says_how_to_go_on(terminal: Terminal) -> None:
    process = terminal.start("run", "sleep", "--input", '{"seconds": 5}', "--backend", "hosted")
    run_id = read_until(process.stderr, "run run_").split()[-1]
    read_until(process.stderr, "submitted")
    process.send_signal(signal.SIGINT)
    answer, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, answer) == (130, "")
    assert f"`gateway cancel {run_id}` ends it" in errors
    assert "Traceback" not in errors
    assert json.loads(terminal.say("watch", run_id)) == {"slept_seconds": 5}


def test_a_deadline_ends_the_run(terminal: Terminal) -> None:
    words = ["run", "sleep", "--input", '{"seconds": 600}', "--backend", "hosted", "--deadline", "1s", "-q"]
    done = terminal.type(*words)
    assert done.returncode == 1
    assert "deadline" in done.stderr


def test_failover_and_the_plan(terminal: Terminal) -> None:
    terminal.say("devnet", "stop", "node1")
    run = terminal.ask("run", "sentiment", "--text", SENTENCE)
    assert (run["output"], run["attempts"][-1]["backend"]) == (SCORES, "hosted")
    plan = terminal.ask("plan", "sentiment", "--text", SENTENCE)
    ranks = {one["backend"]: (one["rank"], one["removed_by"]) for one in plan["candidates"]}
    assert ranks == {"hosted": (1, None), "node1": (0, "unhealthy")}
    assert "can't be reached" in terminal.say("plan", "sentiment", "--text", SENTENCE)
    done = terminal.type("run", "upper", "--text", "x")
    assert done.returncode == 3
    assert "no backend can run this task: node1: " in done.stderr


def test_a_price_limit_removes_what_costs_more(terminal: Terminal) -> None:
    words = ["sentiment", "--text", SENTENCE, "--backend", "hosted", "--max-cost", "0.001 USD"]
    done = terminal.type("run", *words)
    assert done.returncode == 3
    assert "it may cost 0.002 USD, more than 0.001 USD" in done.stderr
    assert terminal.type("plan", *words).returncode == 3


def test_backends_models_doctor(terminal: Terminal) -> None:
    found = terminal.ask("backends")
    assert {name: facts["healthy"] for name, facts in found.items()} == {"node1": True, "hosted": True}
    assert "1.4.0" in terminal.say("backends")
    assert terminal.ask("models")["sentiment"]["node1"] == {"containers": ["sentiment"]}
    assert "loud-sentiment" in terminal.say("models")
    told = terminal.say("doctor")
    assert "backend node1" in told
    terminal.say("devnet", "stop", "node1")
    done = terminal.type("doctor")
    assert done.returncode == 3
    assert [line.split()[0] for line in done.stdout.splitlines() if "backend node1" in line] == ["DOWN"]


def test_a_broken_plugin_is_a_line_of_the_doctor(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken_adapter-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-adapter\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gateway.adapters]\nbroken = no_such_module:Adapter\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    done = terminal.type("doctor")
    assert done.returncode == 2
    (line,) = [line for line in done.stdout.splitlines() if "adapter broken" in line]
    assert line.startswith("WRONG")
    assert "no_such_module" in line
    assert terminal.type("run", "upper", "--text", "x").returncode == 0  # others do not suffer


@pytest.mark.parametrize("backend", ["node1", "hosted"])
def test_a_run_of_a_killed_process_is_finished_and_never_repeated(terminal: Terminal, backend: str) -> None:
    mark = f"killed while polling at {backend}"
    given = json.dumps({"seconds": 5, "mark": mark})
    process = terminal.start("run", "sleep", "--input", given, "--backend", backend)
    run_id = read_until(process.stderr, "run run_").split()[-1]
    read_until(process.stderr, "submitted")
    kill(process)
    (left,) = [run for run in terminal.ask("runs", "--phase", "running") if run["id"] == run_id]
    assert left["attempts"][0]["status"] == "submitted"

    (told,) = terminal.ask("recover")
    assert (told["run_id"], told["backend"], told["status"]) == (run_id, backend, "COMPLETED")
    assert (told["found"], told["done"]) == ("attempt 1 submitted", "attempt 1 succeeded")
    run = terminal.ask("get", run_id)
    assert (run["output"], len(run["attempts"])) == ({"slept_seconds": 5}, 1)
    assert len(terminal.list_accepted("mark", mark)) == 1
    assert terminal.ask("recover") == []


def test_a_process_killed_while_it_submits_is_resolved(terminal: Terminal) -> None:
    """The node hangs before it accepts: nothing landed, which is found out, and then it is sent once."""
    terminal.say("devnet", "fault", "node1", "hang", "--on", "submit")
    given = json.dumps({"text": "killed while submitting"})
    process = terminal.start("run", "upper", "--input", given)
    run_id = read_until(process.stderr, "run run_").split()[-1]
    read_until(process.stderr, "DISPATCHED")
    kill(process)
    terminal.say("devnet", "clear")
    (told,) = terminal.ask("recover")
    assert (told["found"], told["status"]) == ("attempt 1 prepared", "COMPLETED")
    assert told["done"] == "attempt 1 had not landed, and was sent; attempt 1 succeeded"
    assert terminal.ask("get", run_id)["output"] == "KILLED WHILE SUBMITTING"
    assert len(terminal.list_accepted("text", "killed while submitting")) == 1


@pytest.mark.parametrize("backend", ["node1", "hosted"])
def test_a_lost_answer_is_looked_up_and_not_repeated(terminal: Terminal, backend: str) -> None:
    text = f"the answer of {backend} is lost"
    terminal.say("devnet", "fault", backend, "answer-lost", "--on", "submit")
    run = terminal.ask("run", "sentiment", "--text", text, "--backend", backend)
    assert (len(run["attempts"]), run["attempts"][0]["status"]) == (1, "succeeded")
    assert len(terminal.list_accepted("text", text)) == 1


def test_the_progress_line_on_a_terminal(terminal: Terminal) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    process = terminal.start("run", "sleep", "--input", '{"seconds": 1}', stderr=slave)
    os.close(slave)
    answer, _ = process.communicate(timeout=PATIENCE_SECONDS)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert json.loads(answer) == {"slept_seconds": 1}
    drawn = shown.split("\r\x1b[K")
    assert any("RUNNING | node1, attempt 1 |" in line for line in drawn)
    assert drawn[-1].count("\n") == 1  # all but the last line is erased
    assert "COMPLETED at node1" in drawn[-1]


def test_output_may_be_cut_off(terminal: Terminal) -> None:
    """`gateway models | head -1` ends without a complaint."""
    process = terminal.start("models")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(PATIENCE_SECONDS)
    assert (process.returncode, errors) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_the_output_is_said_and_one_under_the_progress_ends_no_waiting(
    terminal: Terminal,
) -> None:
    with Path("/dev/full").open("w") as full:
        for words in (
            ["models"],
            ["run", "upper", "--text", "x"],
            ["run", "words", "--text", "x", "--stream"],
        ):
            process = terminal.start(*words, stdout=full)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 74, errors
            assert "its output can't be written" in errors
            assert "defect" not in errors
        process = terminal.start("run", "upper", "--text", "go on", stderr=full)
        answer, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, answer) == (0, "GO ON\n")


def test_closed_standard_streams_are_no_defect(terminal: Terminal) -> None:
    command = shlex.join([sys.executable, "-m", "gateway", "run", "upper", "--text", "closed"])
    for closed, answer in (("<&-", "CLOSED\n"), (">&-", ""), ("2>&-", "CLOSED\n"), ("<&- >&- 2>&-", "")):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} {closed}"],
            cwd=terminal.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert (done.returncode, done.stdout) == (0, answer), done.stderr


def test_json_on_standard_input_is_utf_8_whatever_the_locale(terminal: Terminal) -> None:
    for encoding, given, status in (
        ("latin-1", '{"text": "grüße ☃"}'.encode(), 0),
        ("ascii", '{"text": "grüße ☃"}'.encode(), 0),
        ("utf-8", b'{"text": "\xff"}', 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "run", "upper", "--quiet"],
            cwd=terminal.folder,
            input=given,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == status, done.stderr
    runs = terminal.ask("runs", "--limit", "2")
    assert [run["task"]["input"] for run in runs] == [{"text": "grüße ☃"}] * 2


def test_the_command_is_installed(terminal: Terminal) -> None:
    command = Path(sys.executable).with_name("gateway")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == terminal.say("--version")
