"""The command line in this process: words, errors, exit statuses. Nothing here reaches a backend."""

from __future__ import annotations

import gc
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.cli import serve
from gateway.cli.exits import choose_exit, describe_error
from gateway.cli.main import COMMANDS, main
from gateway.cli.parser import Parser
from gateway.cli.task_words import add_task_arguments, get_backend, make_task
from gateway.errors import (
    ConfigError,
    GatewayError,
    InvalidInput,
    NoBackend,
    StoreError,
    Unavailable,
    WaitTimeout,
)
from gateway.files import File
from gateway.task import Task
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


@pytest.fixture(autouse=True)
def _keep_logging() -> Iterator[None]:
    root, level = logging.getLogger(), logging.getLogger("gateway").level
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    logging.getLogger("gateway").setLevel(level)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration whose only backend is down."""
    (tmp_path / "gateway.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parse(*words: str) -> Task:
    parser = Parser()
    add_task_arguments(parser)
    return make_task(parser.parse_args(words))


def fail(capsys: pytest.CaptureFixture[str], *words: str, status: int = 2) -> str:
    """Run a command that must fail; return its one sentence."""
    assert main(words) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("gateway: ")
    assert told.err.count("\n") == 1, told.err
    return told.err


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in told
    assert "exit status" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: gateway {command}" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['gateway', '--help']; from gateway.cli.main import main; main();"
    heavy = ["pydantic", "httpx2", "aiohttp", "web3", "sqlite3"]
    code += f"sys.exit(','.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gateway 0.")


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no command 'rnu'; did you mean 'run'?" in fail(capsys, "rnu")


def test_an_unknown_option_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, "run", "sentiment", "--txt", "x")
    assert "there is no option '--txt'; did you mean '--text'? (see `gateway run --help`)" in told
    told = fail(capsys, "runs", "--status=done")
    assert "there is no option '--status'" in told
    assert "(see `gateway runs --help`)" in told
    assert "unrecognized arguments: so" in fail(capsys, "get", "run_1", "so")


def test_doctor_names_an_address_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.toml"
    lines = ["[gateway]", "store = 'memory:'", "[backends.x]", "adapter = 'infernet'"]
    path.write_text("\n".join([*lines, "url = 'http://127.0.0.1:9'"]))
    assert main(["--config", str(path), "doctor"]) == 3
    [line] = [line for line in capsys.readouterr().out.splitlines() if "backend x" in line]
    assert line.count("http://127.0.0.1:9") == 1


def test_a_choice_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, "runs", "--phase", "runing")
    assert "there is no --phase 'runing'; did you mean 'running'?" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "sentimnt", "--text", "x"], "did you mean 'sentiment'?"),
        (["run", "sentiment", "--text", "x", "--backend", "nod1"], "did you mean 'node1'?"),
        (["run", "sentiment", "--text", "x", "--backend", "auto:cheepest"], "cheapest"),
        (["run", "sentiment", "--input", "{bad"], "--input is not JSON"),
        (["run", "sentiment", "--input", "{}", "--max-cost", "cheap"], "--max-cost"),
        (["run", "sentiment", "--input", "{}", "--max-cost", "1 USC"], "--max-cost"),
        (["run", "sentiment", "--input", "{}", "--deadline", "soon"], "--deadline"),
        (["run", "sentiment", "--input", "{}", "--max-attempts", "0"], "--max-attempts"),
        (["run", "sentiment", "--input", "[]", "--file", "a=gateway.toml"], "--file needs an input"),
        (["run", "sentiment", "--file", "a"], "FIELD=PATH"),
        (["run", "sentiment", "--file", "a=gateway.tml"], "did you mean gateway.toml?"),
        (["run", "sentiment", "--input-file", "nothing.json"], "nothing.json can't be read: No such file"),
        (["run", "sentiment", "--file", "a=.."], "there is no file .."),
        (["serve", "--port", "65536"], "'65536' is not a port"),
        (["serve", "--workers", "0"], "'0' is not a whole number of at least 1"),
        (["run", "sentiment", "--text", "x", "--stream", "--json"], "choose one"),
        (["run", "sentiment", "--text", "x", "--input", "{}"], "not allowed with"),
        (["run", "--text", "x"], "name a model"),
        (["run", "--target", "[]", "--backend", "node1", "--text", "x"], "JSON object"),
        (["run", "--target", "{}", "--backend", "node1", "--text", "x"], "containers is missing"),
        (["run", "--target", '{"containers": ["a"]}', "--text", "x"], "needs a named backend"),
        (["get", "run_unknown"], "there is no run run_unknown"),
        (["cancel", ""], "the id of the run is empty"),
        (["watch", "run_unknown"], "there is no run run_unknown"),
        (["cancel", "run_unknown"], "there is no run run_unknown"),
        (["runs", "--limit", "0"], "--limit"),
        (["devnet", "status"], "no devnet runs in"),
        (["run", "sentiment", "--text", "x", "--timeout", "nan"], "'nan' is not a number of seconds"),
        (["run", "sentiment", "--text", "x", "--timeout", "soon"], "'soon' is not a number of seconds"),
        (["run", "sentiment", "--text", "x", "--idempotency-key", ""], "--idempotency-key: it is empty"),
        (["run", "sentiment", "--text", "x", "--key", " "], "--key: it is empty"),
        (["cancel", "run_unknown", "--wait", "-1"], "'-1' is not a number of seconds"),
        (["costs", "--since", "soon"], "--since: 'soon' is not a duration"),
        (["costs", "--since", "999999d"], "--since: '999999d' is longer ago than any run can be"),
        (["prune", "--older-than", "1d", "--keep", "-1"], "'-1' is not a whole number of at least 0"),
        (["settle", "run_unknown", "--not-charged", "--evidence", ""], "--evidence: it is empty"),
        (["devnet", "fault", "node1", "hang", "--times", "0"], "'0' is not a whole number of at least 1"),
        (["devnet", "up", "--node-port", "65536"], "'65536' is not a port"),
        (["devnet", "up", "--rate-limit", "0"], "'0' is not a whole number of at least 1"),
        (["devnet", "up", "--chain", "--no-chain"], "not allowed with argument --chain"),
        (["devnet", "up"], "--force replaces it"),
    ],
)
def test_bad_words_are_one_sentence_and_status_2(
    words: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in fail(capsys, *words)
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []  # nothing was submitted


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[gatway]\n", "did you mean 'gateway'?"),
        ("[backends.x]\nadapter = 'infernett'\n", "did you mean 'infernet'?"),
        ("[backends.x]\nadapter = 'infernet'\nulr = 'http://a'\n", "did you mean 'url'?"),
        ("[backends.x]\nadapter = 'infernet'\nurl = 'env:NOT_SET'\n", "NOT_SET is not set"),
        ("[backends.x]\nadapter = 'infernet'\nurl = 'file:nothing'\n", "can't be read"),
        ("[gateway]\nstore = 'postgres:'\n", "is not a store"),
        ("not toml", "is not TOML"),
    ],
)
def test_a_wrong_configuration_is_one_sentence_and_status_2(
    config: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gateway.toml").write_text(config)
    assert told in fail(capsys, "run", "sentiment", "--text", "x")


def test_no_configuration_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "gateway.toml") in fail(capsys, "models")


def test_config_may_stand_before_and_after_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.toml").write_text(CONFIG.replace("sentiment", "mood"))
    for words in (["--config", "other.toml", "models"], ["models", "--config", "other.toml"]):
        assert main(words) == 0
        assert "mood" in capsys.readouterr().out


@pytest.mark.parametrize("order", ["keys list", "ogpu balances", "devnet status", "devnet up"])
def test_an_order_of_a_command_takes_them_too(order: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*order.split(), "--config", "other.toml", "--debug", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  --{option} " in told.replace("\n", " ") for option in ("config PATH", "debug"))


def test_no_backend_is_status_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "node1: http://127.0.0.1:9" in fail(capsys, "run", "sentiment", "--text", "x", status=3)


def test_the_plan_shows_the_rule_that_removed_a_backend(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "sentiment", "--text", "x"]) == 3
    told = capsys.readouterr().out
    assert "unhealthy" in told
    assert "can't be reached" in told


def test_the_doctor_says_what_each_extra_lacks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["anyio>=4", 'no-such-tea[hot]>=1,<2; extra == "tea"', 'anyio>=4; extra == "tea"']
    lines += [
        'elsewhere; sys_platform == "win32" and extra == "tea"',
        'inference-gateway[tea]; extra == "all"',
    ]
    monkeypatch.setattr("gateway.cli.doctor.requires", lambda _: lines)
    main(["doctor", "--json"])
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert [what for what in found if what.startswith("extra")] == ["extra tea"]
    assert found["extra tea"]["mark"] == "note"
    assert found["extra tea"]["detail"] == "not installed: no-such-tea; pip install 'inference-gateway[tea]'"
    assert "anyio" in found["packages"]["detail"]


def test_a_devnet_that_can_write_no_files_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, "devnet", "up", "--no-chain", "--folder", "gateway.toml/inside")
    assert "gateway.toml/inside" in told
    assert "can't be used: Not a directory; --folder names another place" in told


def test_debug_shows_where_it_came_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "sentimnt", "--text", "x", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_is_one_sentence_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("gateway.client.AsyncGateway.from_config", break_down)
    told = fail(capsys, "models", status=70)
    assert "a defect of the gateway: ZeroDivisionError: by zero (--debug shows where)" in told


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoBackend("none"), 3),
        (Unavailable("down", backend="b"), 3),
        (WaitTimeout("late", run_id="r"), 4),
        (ConfigError("wrong"), 2),
        (InvalidInput("wrong"), 2),
        (StoreError("full"), 2),
        (GatewayError("any"), 2),
        (RuntimeError("defect"), 70),
    ],
)
def test_exit_statuses(error: Exception, status: int) -> None:
    assert choose_exit(error) == status


def test_errors_never_control_the_terminal() -> None:
    assert describe_error(GatewayError("a\x1b[2Jb\nc")) == "a [2Jb c"


def test_words_make_a_task(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"png")
    words = ["m", "--input", '{"a": 1}', "--file", f"image={image}", "--max-cost", "0.01 USD"]
    task = parse(*words, "--deadline", "2m", "--max-attempts", "3", "--on-failed", "next")
    assert (task.model, task.input) == ("m", {"a": 1, "image": File(path=str(image))})
    assert task.limits.max_cost == Money.parse("0.01 USD")
    assert task.limits.deadline == timedelta(minutes=2)
    assert (task.limits.max_attempts, task.limits.on_failed) == (3, "next")


def test_a_file_alone_needs_no_input(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    assert parse("m", "--file", f"file={path}").input == {"file": File(path=str(path))}


def test_text_is_never_read_as_json() -> None:
    assert parse("m", "--text", '{"a": 1}').input == {"text": '{"a": 1}'}


@pytest.mark.parametrize("words", [[], ["--input", "-"]])
def test_input_may_be_piped(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"text": "piped"}'))
    assert parse("m", *words).input == {"text": "piped"}


def test_an_empty_pipe_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(GatewayError, match="standard input is empty"):
        parse("m")


@pytest.mark.parametrize(
    ("word", "meant"), [("auto", "auto"), ("node1", "node1"), ("b, a", ["b", "a"]), ("auto:fastest",) * 2]
)
def test_backends_in_order(word: str, meant: object) -> None:
    parser = Parser()
    add_task_arguments(parser)
    assert get_backend(parser.parse_args(["m", "--backend", word])) == meant


@pytest.mark.parametrize("say", [serve._say, serve._say_nothing])
def test_a_server_looks_for_garbage_from_the_moment_it_listens(say: Callable[[str], None]) -> None:
    gc.disable()
    try:
        say("here")
        assert gc.isenabled()
    finally:
        gc.enable()


def test_a_server_that_can_not_start_leaves_garbage_to_be_looked_for(tmp_path: Path) -> None:
    assert main(["serve", "--config", str(tmp_path / "none.toml")]) == 2
    assert gc.isenabled()
