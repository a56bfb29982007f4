"""The import beside the event loop, where a process ends before it is done."""

from __future__ import annotations

import subprocess
import sys

import pytest

WAYS = {
    "beside": "import asyncio; from gateway.chain.loading import load; asyncio.run(load())",
    "for an RPC": "from gateway.chain.rpc import make_web3; make_web3('http://127.0.0.1:9')",
    "for a key": "from pydantic import SecretStr; from gateway.chain.signer import make_key_signer;"
    "make_key_signer(SecretStr('5e' * 32))",
    "for Infernet": "from gateway_infernet.subscription import load_extra; load_extra('eth_account')",
}


def test_a_process_may_end_while_it_goes_on() -> None:
    code = "from gateway.chain.loading import begin_to_load; begin_to_load()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("way", WAYS)
def test_what_a_chain_needs_lets_no_deep_json_kill_the_process(way: str) -> None:
    """py_ecc, which comes with web3, lets Python recurse deeper than its stack holds."""
    code = (
        f"import sys; limit = sys.getrecursionlimit(); {WAYS[way]};"
        "assert sys.getrecursionlimit() == limit, sys.getrecursionlimit()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_nor_does_an_answer_where_the_application_has_imported_web3_itself() -> None:
    code = (
        "import web3; from gateway_ogpu.wire import parse_answer\n"
        "try:\n    parse_answer(b'[' * 300_000)\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert "recursion" in done.stdout
