"""`gateway devnet up` as a process: whose files it writes, and how it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from terminal import PATIENCE_SECONDS, Terminal, read_until, running_devnet

FILES = {"gateway.toml", ".gateway-devnet-key"}
WITH_CHAIN = {*FILES, ".gateway-devnet-signer", ".gateway-devnet-client"}


def list_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process = Terminal(tmp_path).start("devnet", "up")
    read_until(process.stdout, "ends it")
    assert list_files(tmp_path) == {*WITH_CHAIN, ".gateway-devnet.json"}
    process.send_signal(number)
    told, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert "The devnet has ended." in told
    assert list_files(tmp_path) == WITH_CHAIN


def test_ctrl_c_in_its_terminal_ends_its_chains_too_without_a_word(tmp_path: Path) -> None:
    """The terminal signals the whole group of processes: an anvil that is there ends before its devnet."""
    process = Terminal(tmp_path).start("devnet", "up", "--chain", start_new_session=True)
    read_until(process.stdout, "ends it")
    os.killpg(process.pid, signal.SIGINT)
    told, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert told.endswith("The devnet has ended.\n")


def test_another_terminal_ends_it(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    process = terminal.start("devnet", "up", "--no-chain")
    read_until(process.stdout, "ends it")
    assert "STOPPED" in terminal.say("devnet", "stop", "node1")
    told = terminal.say("devnet", "fault", "hosted", "hang", "--on", "poll", "--always")
    assert "hang on poll, always" in told
    terminal.say("devnet", "down")
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert list_files(tmp_path) == FILES


def test_its_chain_is_armed_from_another_terminal_and_a_run_is_paid_once(tmp_path: Path) -> None:
    with running_devnet(tmp_path, "--chain") as terminal:
        assert [one["name"] for one in terminal.ask("devnet", "status")][2:] == ["chain", "content", "bots"]
        told = terminal.say("devnet", "fault", "chain", "answer-lost")
        assert "answer_lost on eth_sendRawTransaction, 1 x" in told
        assert "down on pin, 1 x" in terminal.say("devnet", "fault", "content", "down", "--on", "pin")
        assert "unpinned_host on any, 1 x" in terminal.say("devnet", "fault", "bots", "unpinned-host")
        assert "legacy_only on any, always" in terminal.say("devnet", "fault", "chain", "legacy-only")
        run = terminal.ask("run", "sentiment-on-ogpu", "--text", "VADER is smart, handsome, and funny.")
        assert run["output"]["compound"] == 0.8316
        accepted = terminal.list_accepted("text", "VADER is smart, handsome, and funny.")
        assert [line["backend"] for line in accepted] == ["chain"]
        wrong = terminal.type("devnet", "fault", "chain", "reorgs")
        assert (wrong.returncode, "did you mean 'reorg'" in wrong.stderr) == (2, True)


def test_a_second_one_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with running_devnet(tmp_path, "--no-chain") as terminal:
        done = terminal.type("devnet", "up")
        assert done.returncode == 2
        assert "runs in" in done.stderr
        assert terminal.say("devnet", "status")  # the first one did not suffer


def test_it_comes_back_on_the_ports_it_is_told(tmp_path: Path) -> None:
    with running_devnet(tmp_path, "--no-chain") as terminal:
        urls = [one["url"] for one in terminal.ask("devnet", "status")]
    node, api = (url.rpartition(":")[2] for url in urls)
    with running_devnet(tmp_path, "--node-port", node, "--api-port", api, "--no-chain") as terminal:
        assert [one["url"] for one in terminal.ask("devnet", "status")] == urls


def test_it_never_replaces_a_configuration_of_yours(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("# mine\n")
    done = Terminal(tmp_path).type("devnet", "up")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert config.read_text() == "# mine\n"
    with running_devnet(tmp_path, "--force", "--no-chain"):
        assert "# mine" not in config.read_text()


def test_it_writes_where_it_is_told(tmp_path: Path) -> None:
    with running_devnet(tmp_path, "--folder", "deep", "--no-chain") as terminal:
        assert list_files(tmp_path / "deep") >= FILES
        told = terminal.type("--config", "deep/gateway.toml", "run", "upper", "--text", "x", "-q")
        assert (told.returncode, told.stdout) == (0, "X\n")
        assert terminal.say("devnet", "status", "--folder", "deep")


def test_a_node_with_the_limit_of_real_nodes_still_serves_everything(tmp_path: Path) -> None:
    with running_devnet(tmp_path, "--rate-limit", "60", "--no-chain") as terminal:
        run = terminal.ask("run", "sentiment", "--text", "fine")
        assert run["attempts"][0]["backend"] == "node1"
