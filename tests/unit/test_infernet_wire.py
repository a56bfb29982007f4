from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.errors import BackendError, InDoubt, InvalidInput, Misbehaved, Rejected, Unavailable
from gateway.files import File, encode_files
from gateway.http import Answer
from gateway.lifecycle import Status
from gateway.types import Money
from gateway_infernet import wire
from gateway_infernet.config import InfernetConfig, InfernetTarget

# The statuses of the node's API, as it says them on the wire.
STATUSES_OF_A_NODE = {"running", "success", "failed"}


def answer(status: int, body: Any, kind: str = "application/json", **headers: str) -> Answer:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode() + b"\n"
    return Answer(status, {"content-type": kind, **headers}, raw)


def page(status: int) -> Answer:
    return answer(status, "<!doctype html>\n<title>Error</title>", "text/html; charset=utf-8")


def refuse(found: Answer, *, lands: bool = True) -> BackendError:
    return wire.make_refusal(found, "POST /api/jobs", backend="n", lands=lands, job_id="j")


def test_the_table_of_statuses_is_total() -> None:
    assert set(wire.STATUS) == STATUSES_OF_A_NODE
    assert {status.phase.value for status in wire.STATUS.values()} == STATUSES_OF_A_NODE
    assert all(wire.STATUS[word].phase == word for word in STATUSES_OF_A_NODE)
    assert "failure" not in wire.STATUS  # the OpenAPI file's word, which no node says
    assert set(wire.STATUS.values()) == {Status.RUNNING, Status.COMPLETED, Status.FAILED}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1.4.0", (1, 4, 0)), ("1.0.0rc1", (1, 0, 0)), (None, (0,)), ("", (0,)), ("x", (0,)), ("10.2", (10, 2))],
)
def test_versions(text: str | None, numbers: tuple[int, ...]) -> None:
    assert wire.parse_version(text) == numbers


@pytest.mark.parametrize("value", [None, [], "text", 3, True, 1.5])
def test_an_input_that_is_no_object_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidInput, match="must be a JSON object"):
        wire.make_data(value)


def test_files_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no files"):
        wire.make_data(encode_files({"image": [File(data=b"x")]}))


def test_nothing_of_the_caller_stands_at_the_top_level() -> None:
    target = InfernetTarget(containers=["echo"])
    data = {"ip": "10.0.0.1", "type": "x", "id": "mine"}
    assert wire.make_job_body("a-1", data, target) == {"id": "a-1", "containers": ["echo"], "data": data}
    proving = InfernetTarget(containers=["echo"], requires_proof=False)
    assert wire.make_job_body("a-1", {}, proving)["requires_proof"] is False


@pytest.mark.parametrize("job_id", ["", "a:b", "x" * 201, "line\n"])
def test_ids_that_a_node_would_cut(job_id: str) -> None:
    with pytest.raises(InvalidInput, match="id"):
        wire.make_job_body(job_id, {}, InfernetTarget(containers=["echo"]))


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"containers": []},
        {"containers": ["a,b"]},
        {"containers": [" "]},
        {"containers": "echo"},
        {"containers": [1]},
        {"containers": ["echo"], "requires_proof": "yes"},
        {"containers": ["echo"], "requires_proof": 1},
        {"containers": ["echo"], "container": "echo"},
        {"containers": ["echo"], "delegated": {"owner": "0x1"}},
        {"containers": ["echo"], "delegated": {"owner": "0x" + "1" * 40, "nonce": 2**32}},
    ],
)
def test_targets_that_a_node_would_refuse_without_a_word(target: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InfernetTarget.model_validate(target)


def test_the_configuration() -> None:
    config = InfernetConfig.model_validate({"url": "http://n:4000/", "price": "0.001 USD"})
    assert (config.url, config.price) == ("http://n:4000", Money.parse("0.001 USD"))
    for wrong in (
        {"url": "localhost:4000"},
        {"url": "http://n", "price": "1 XYZ"},
        {"url": "http://n", "key": 1},
    ):
        with pytest.raises(ValidationError):
            InfernetConfig.model_validate(wrong)
    chain = {"private_key": "0x" + "7" * 64, "registry": "0x" + "1" * 40, "rpc_url": "http://c/SECRET"}
    held = InfernetConfig.model_validate({"url": "http://n", "chain": chain})
    assert "SECRET" not in repr(held)
    assert "7777" not in repr(held)
    for missing in ("registry", "rpc_url", "private_key"):
        with pytest.raises(ValidationError):
            InfernetConfig.model_validate(
                {"url": "http://n", "chain": {k: v for k, v in chain.items() if k != missing}}
            )


def test_a_body_above_the_limit_is_refused_here() -> None:
    assert wire.encode_body({"d": "x" * 15_899_000}, backend="n")
    with pytest.raises(Rejected, match=r"15\.9 MB"):
        wire.encode_body({"d": "x" * 15_900_000}, backend="n")


def test_what_json_cannot_hold_is_an_input_error() -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        wire.encode_body({"d": "\ud800"}, backend="n")
    assert b"NaN" in wire.encode_body({"d": float("nan")}, backend="n")


@given(st.lists(st.text(min_size=1, max_size=200), max_size=600))
def test_the_head_of_a_get_stays_within_the_nodes_limit(ids: list[str]) -> None:
    import httpx2

    count = wire.count_for_get(ids)
    assert count <= min(wire.MAX_IDS_PER_GET, len(ids))
    assert count >= 1 or not ids
    query = str(httpx2.QueryParams([("id", job_id) for job_id in ids[:count]]))
    assert len(query) <= max(wire.MAX_QUERY_BYTES, 3 * 4 * 200 + 4)


def test_350_uuids_fit_into_one_get() -> None:
    ids = ["3e1d4e0c-1111-2222-3333-444455556666"] * 800
    assert wire.count_for_get(ids) == 350


# Refusals


def test_a_guardians_405_is_a_refusal_with_its_words() -> None:
    said = {"error": "Container not supported", "params": {"container": "nope"}}
    error = refuse(answer(405, said))
    assert isinstance(error, Rejected)
    assert error.message == "Container not supported (container nope)"
    assert (error.code, error.detail, error.http_status) == ("Container not supported", said, 405)


def test_an_html_405_is_another_405() -> None:
    error = refuse(page(405))
    assert isinstance(error, Rejected)
    assert "wrong method" in error.message


@pytest.mark.parametrize(
    "text",
    [
        'Internal server error: can not match type "dict" to any type of "None" union: typing.Union[...]',
        "Internal server error: 'list' object is not a mapping",
        "Internal server error: 400 Bad Request: The browser (or proxy) sent a request ...",
        "Internal server error: 413 Request Entity Too Large: ...",
        "Could not enqueue job:  can not match type",
    ],
)
def test_a_500_for_what_could_not_be_read_did_not_land(text: str) -> None:
    found = answer(500, {"error": text})
    assert isinstance(refuse(found), Rejected)
    assert wire.is_never_started(found)


def test_the_400_of_nodes_before_1_0() -> None:
    assert isinstance(refuse(answer(400, {"error": "Could not parse message"})), Rejected)


def test_the_refusal_that_a_node_cannot_say() -> None:
    text = "Internal server error: Object of type MessageType is not JSON serializable"
    error = refuse(answer(500, {"error": text}))
    assert isinstance(error, Rejected)
    assert "chain is disabled, or the signature expired" in error.message
    # In a batch the other jobs have been started by then.
    assert not wire.is_never_started(answer(500, {"error": text}))


@pytest.mark.parametrize(
    "found",
    [
        page(500),
        answer(500, {"error": "Internal server error: Connection reset"}),
        answer(500, {"error": ["can not match type"]}),
        answer(500, "{", "application/json"),
        answer(500, "[]", "application/json"),
        page(502),
    ],
)
def test_any_other_500_leaves_a_doubt_if_it_could_land(found: Answer) -> None:
    assert isinstance(refuse(found), InDoubt)
    assert isinstance(refuse(found, lands=False), Unavailable)


def test_a_page_is_never_read_as_the_nodes_words() -> None:
    lying = answer(500, '{"error": "can not match type"}', "text/html")
    assert isinstance(refuse(lying), InDoubt)


@pytest.mark.parametrize(("status", "words"), [(404, "no such path"), (431, "too large"), (413, "too large")])
def test_statuses_that_say_more_than_their_body(status: int, words: str) -> None:
    error = refuse(page(status))
    assert isinstance(error, Rejected)
    assert words in error.message


# Batches

IDS = st.lists(st.uuids().map(str), min_size=1, max_size=12, unique=True)


@given(IDS, st.data())
def test_a_batch_is_matched_by_id_and_refusals_by_place(ids: list[str], data: st.DataObject) -> None:
    refused = set(data.draw(st.lists(st.sampled_from(ids), unique=True)))
    entries = [
        {"error": "Container not supported", "params": {"container": i}} if i in refused else {"id": i}
        for i in ids
    ]
    results = wire.parse_batch(answer(200, entries), ids, "batch", backend="n")
    for job_id, result in zip(ids, results, strict=True):
        if job_id in refused:
            assert isinstance(result, Rejected)
            assert result.job_id == job_id
            assert job_id in result.message
        else:
            assert result == job_id


@given(IDS, st.data())
def test_a_batch_with_entries_left_out_never_gives_a_refusal_to_the_wrong_job(
    ids: list[str], data: st.DataObject
) -> None:
    """Nodes before 1.0 leave entries out, so that places shift: only ids count then."""
    refused = set(data.draw(st.lists(st.sampled_from(ids), unique=True)))
    gone = data.draw(st.sampled_from(ids))
    entries = [{"error": "no", "params": {}} if i in refused else {"id": i} for i in ids if i != gone]
    results = wire.parse_batch(answer(200, entries), ids, "batch", backend="n")
    for job_id, result in zip(ids, results, strict=True):
        if job_id == gone or job_id in refused:
            assert isinstance(result, Misbehaved)
        else:
            assert result == job_id


@pytest.mark.parametrize("entries", [[{}, {}], [1, None], [{"id": 3}, {"id": None}], []])
def test_entries_of_a_batch_that_say_nothing_leave_a_doubt(entries: list[Any]) -> None:
    results = wire.parse_batch(answer(200, entries), ["a", "b"], "batch", backend="n")
    assert [type(result) for result in results] == [Misbehaved, Misbehaved]


def test_a_node_that_chooses_the_ids_itself_is_followed() -> None:
    found = answer(200, [{"id": "x"}, {"error": "no", "params": {}}, {"id": "c"}])
    first, second, third = wire.parse_batch(found, ["a", "b", "c"], "batch", backend="n")
    assert (first, third) == ("x", "c")
    assert isinstance(second, Rejected)


@pytest.mark.parametrize("body", ["<html>", '{"id": 1}', "3", "null"])
def test_an_acceptance_without_an_id_is_misbehaviour(body: str) -> None:
    with pytest.raises(Misbehaved):
        wire.parse_job_id(answer(200, body), "POST", backend="n")


# Results


def entry_of(job_id: str, status: str = "running") -> dict[str, Any]:
    return {"id": job_id, "result": None, "status": status}


def look(entries: Any, *ids: str) -> dict[str, wire.Look]:
    return wire.parse_results(answer(200, entries), ids, "GET", backend="n")


@given(IDS, st.randoms(use_true_random=False), st.data())
def test_results_are_matched_by_id_whatever_their_order(
    ids: list[str], random: Any, data: st.DataObject
) -> None:
    known = data.draw(st.lists(st.sampled_from(ids), unique=True))
    entries = [entry_of(job_id) for job_id in known] + [entry_of("somebody-else")]
    random.shuffle(entries)
    looks = look(entries, *ids)
    assert list(looks) == ids
    for job_id, seen in looks.items():
        assert seen.is_certain
        assert (seen.entry is not None and seen.entry["id"] == job_id) == (job_id in known)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_entries_for_one_id_the_one_that_runs_counts(order: int) -> None:
    entries = [entry_of("a", "success"), entry_of("a", "running")][::order]
    assert look(entries, "a")["a"].entry == entry_of("a", "running")


def test_an_unknown_id_is_certain_only_in_an_answer_without_garbage() -> None:
    assert look([], "a")["a"] == wire.Look(None, is_certain=True)
    assert look([entry_of("b"), 3], "a")["a"] == wire.Look(None, is_certain=False)
    with pytest.raises(Misbehaved, match="no entry can be read"):
        look([3, {"status": "running"}], "a")
    with pytest.raises(Misbehaved):
        look({"error": "x"}, "a")


def test_nan_and_huge_integers_come_through() -> None:
    output = f"[NaN,Infinity,{2**200}]"
    raw = f'[{{"id":"a","result":{{"container":"c","output":{output}}},"status":"success"}}]'
    entry = look(raw, "a")["a"].entry
    assert entry is not None
    seen = entry["result"]["output"]
    assert math.isnan(seen[0])
    assert seen[1:] == [float("inf"), 2**200]


@pytest.mark.parametrize(
    "poison", ['"\\ud800"', "[" * 400 + "]" * 400, "1" * 5000], ids=["half", "deep", "digits"]
)
def test_what_cannot_be_kept_does_not_hide_the_others(poison: str) -> None:
    good = json.dumps(entry_of("good"))
    raw = f'[{{"id":"bad","result":{{"container":"c","output":{poison}}},"status":"success"}},{good}]'
    looks = look(raw, "bad", "good", "unknown")
    assert not looks["bad"].is_sound
    assert looks["good"] == wire.Look(entry_of("good"))
    assert looks["unknown"] == wire.Look(None)


@given(st.binary(max_size=60))
def test_garbage_is_always_misbehaviour(raw: bytes) -> None:
    assume(not raw.strip().startswith(b"["))
    with pytest.raises(Misbehaved, match="n: GET"):
        wire.parse_results(Answer(200, {}, raw), ["a"], "GET", backend="n")
