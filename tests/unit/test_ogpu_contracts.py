"""OGPU's ABI as the adapter speaks it is the measured one; its words survive a round trip."""

from __future__ import annotations

import json

import pytest
from ogpu_abi import SELECTORS, SIGNATURES, TOPICS

from gateway.chain.rpc import Log, Reverted
from gateway.errors import InvalidInput, Misbehaved
from gateway.lifecycle import Status
from gateway_ogpu import contracts, wire
from gateway_ogpu.errors import NotAllowed, OgpuRefused, SourceInactive, explain_revert

TASK = "0x148eAeE9eb6B4BF05b15C9dbFD1Bd35d1D7D7377"


MEASURED = {name: selector for some in SELECTORS.values() for name, selector in some.items()}
PROVIDERS_ALONE = {"register", "attempt", "submitResponse"}


@pytest.mark.parametrize(
    ("function", "selector"), [one for one in MEASURED.items() if one[0] not in PROVIDERS_ALONE]
)
def test_selectors_are_the_measured_ones(function: str, selector: str) -> None:
    assert contracts.get_selector(function).hex() == selector


@pytest.mark.parametrize("event", contracts.EVENTS)
def test_topics_are_the_measured_ones(event: str) -> None:
    assert contracts.get_topic(event).hex() == TOPICS[event]


@pytest.mark.parametrize("function", contracts.FUNCTIONS)
def test_every_function_is_in_the_abi(function: str) -> None:
    taken, given = contracts.FUNCTIONS[function]
    known = {line for lines in SIGNATURES.values() for line in lines}
    start, end = f"function {function}({','.join(taken)}) ", f" -> ({','.join(given)})"
    assert any(line.startswith(start) and line.endswith(end) for line in known)


def test_an_event_is_read() -> None:
    from eth_abi.abi import encode

    data = encode(["address", "uint8"], [TASK, 5])
    log = Log(TASK, (contracts.get_topic("TaskStatusChanged"),), data, 7, "0x1", "0x2", 3)
    event = contracts.parse_event(log)
    assert event is not None
    assert (event.name, event.arguments, event.block_number) == (
        "TaskStatusChanged",
        {"task": TASK, "status": 5},
        7,
    )
    assert contracts.parse_event(Log(TASK, (bytes(32),), b"", 7, "0x1", "0x2", 3)) is None


def test_what_is_cut_off_misbehaves() -> None:
    with pytest.raises(Misbehaved):
        contracts.parse_result("getAttemptCount", b"\1\2")


def test_a_text_that_is_no_utf_8_is_read_all_the_same() -> None:
    from eth_abi.abi import encode

    address = "0x" + "ab" * 20
    told = encode([contracts.RESPONSE_PARAMS], [(address, address, "ipfs://ZZä", 7)])
    _, provider, url, payment = contracts.parse_result("getResponseParams", told.replace(b"ZZ", b"\xff\xfe"))
    assert (provider.lower(), url, payment) == (address, "ipfs://\ufffd\ufffdä", 7)


def test_the_table_of_statuses_is_total() -> None:
    assert set(wire.STATUS) == set(wire.TaskStatus)
    assert {word.name: status for word, status in wire.STATUS.items()} == {
        "NEW": Status.QUEUED,
        "ATTEMPTED": Status.RUNNING,
        "RESPONDED": Status.UPLOADING,
        "FINALIZED": Status.COMPLETED,
        "CANCELED": Status.CANCELLED,
        "EXPIRED": Status.FAILED,
    }


def test_an_unheard_of_status_is_an_error() -> None:
    with pytest.raises(Misbehaved):
        wire.parse_enum(wire.TaskStatus, 6)


def test_equal_configs_have_equal_bytes() -> None:
    one = wire.encode_config("f", {"b": 1, "a": "ä"}, {"x": True})
    assert one == wire.encode_config("f", {"a": "ä", "b": 1}, {"x": True})
    assert json.loads(one) == {"function_name": "f", "data": {"a": "ä", "b": 1}, "x": True}


@pytest.mark.parametrize("data", ["text", [1], None, {"x": float("nan")}])
def test_what_no_function_takes_is_refused(data: object) -> None:
    with pytest.raises(InvalidInput):
        wire.encode_config("f", data, {})


@pytest.mark.parametrize("data", [b"<html>", b"\xff", b"", b'{"x": NaN}'])
def test_what_is_not_json_is_no_answer(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|value|decode"):
        wire.parse_answer(data)


@pytest.mark.parametrize(
    ("words", "kind"),
    [("SourceInactive", SourceInactive), ("NotOwner", NotAllowed), ("Unheard", OgpuRefused)],
)
def test_reverts_have_kinds(words: str, kind: type[OgpuRefused]) -> None:
    error = explain_revert(Reverted(f"eth_estimateGas: execution reverted: {words}", b""), "publishing")
    assert type(error) is kind
    assert words in str(error)
    assert error.landed is False
