"""OGPU's ABI as the adapter speaks it is the measured one; its words survive a round trip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.chain.rpc import Log, Reverted
from gateway.errors import InvalidInput, Misbehaved
from gateway.lifecycle import Status
from gateway_ogpu import contracts, wire
from gateway_ogpu.errors import NotAllowed, OgpuRefused, SourceInactive, explain_revert

VECTORS = Path(__file__).parents[1] / "vectors"
SIGNATURES: dict[str, list[str]] = json.loads((VECTORS / "ogpu-abi-signatures.json").read_text())
SELECTORS = {
    "publishTask": "90d93b1d",
    "confirmResponse": "45fac6ec",
    "cancelTask": "76aafbdb",
    "publishSource": "4912f56d",
    "updateSource": "2ce65e26",
    "inactivateSource": "b3a85451",
    "getStatus": "4e69d560",
    "getAttemptCount": "f5653690",
    "getResponsesOf": "961dc61e",
    "responseOf": "e2c116da",
    "winningProvider": "ae7c03cd",
    "getResponseParams": "c3c1fa65",
    "confirmedFinal": "2300403b",
    "deposit": "f340fa01",
    "frozenPayment": "818e0155",
}
TOPICS = {
    "TaskPublished": "3bf5b04cf8ed447db6fda0a63a96369fd5dde6b366b6b480e784be44b26a6c22",
    "TaskStatusChanged": "004961faf5705b2d0656e64b56064817b7e3f00eefca17906d2d1600b20b73ec",
    "Attempted": "88c89788e8b61b93ed2a66e02b36e04d60275b78893674aa6134fad20874022d",
    "ResponseSubmitted": "f6a0b941311aeaa4102f64c379955a62cca24a7cb0cf54e6203ca75075588554",
    "ResponseStatusChanged": "0af3a4721b2eaed49a7bcd503459564e37cd4b6825d633c60f12ba26c2397f4c",
    "SourcePublished": "aed6dbe0b027f2c996fbb0c72ea0549a1b18ee6bd48549fbce971a7027503a57",
    "SourceStatusChanged": "d67fb784e94c7730f8d719043be4a40dcc6786aded1760f77aa46716193421a2",
    "SourceUpdated": "5f9bf4e8a1679156115361af50849b7807ce9be1880b79fc30ded34053274895",
    "Registered": "d336e6f66ca18b8522dabc6be4828055a35190f0152ae2b125ad0cb6c9a0c120",
}
TASK = "0x148eAeE9eb6B4BF05b15C9dbFD1Bd35d1D7D7377"


@pytest.mark.parametrize(("function", "selector"), SELECTORS.items())
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
