"""Models in our words, targets in the backends', and the mapping between two shapes of one model."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import jsonpath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from gateway.catalogue import Catalogue, Mapper, Target, parse_steps
from gateway.config import ModelSettings
from gateway.errors import ConfigError, InvalidInput, UnknownBackend, UnknownModel
from gateway.limits import Limits
from gateway.task import Task
from gateway.testing import FakeAdapter
from gateway.types import JSON, Money


class Words(BaseModel):
    """A target that needs a container."""

    model_config = ConfigDict(extra="forbid")

    containers: Annotated[list[str], Field(min_length=1)]
    priority: int = 0


class NodeAdapter(FakeAdapter):
    target_type = Words  # type: ignore[assignment]  # another node, other words


ADAPTERS = {"node1": NodeAdapter("node1"), "node2": NodeAdapter("node2"), "hosted": FakeAdapter("hosted")}


def make(**models: dict[str, Any]) -> Catalogue:
    return Catalogue({name: ModelSettings.model_validate(m) for name, m in models.items()}, ADAPTERS)


def make_target(**words: Any) -> Target:
    catalogue = make(m={"targets": {"node1": {"containers": ["c"], **words}}})
    return catalogue.models["m"].targets["node1"]


CATALOGUE = make(
    sentiment={
        "targets": {
            "node1": {
                "containers": ["sentiment"],
                "priority": 3,
                "input": {"text": "$.prompt"},
                "cost": "5 USD",
            },
            "hosted": {"app": "acme/sentiment", "output": "$.result.text"},
        },
        "deadline": "2m",
        "max_attempts": 2,
        "description": "Says how a sentence feels.",
    },
    echo={"targets": {"node2": {"containers": ["echo"]}}},
)


def find(task: Task, *backends: str) -> list[Target]:
    return CATALOGUE.find_targets(task, backends or None)


def test_a_model_has_its_targets_and_limits() -> None:
    model = CATALOGUE.get_model("sentiment")
    assert model.limits == Limits(deadline=model.limits.deadline, max_attempts=2)
    assert str(model.limits.deadline) == "0:02:00"
    assert model.description == "Says how a sentence feels."
    node, hosted = model.targets.values()
    assert (node.backend, node.words) == ("node1", {"containers": ["sentiment"], "priority": 3})
    assert node.cost == Money.parse("5 USD")
    assert (hosted.backend, hosted.words, hosted.cost) == ("hosted", {"app": "acme/sentiment"}, None)


@pytest.mark.parametrize(
    ("backends", "found"),
    [
        ((), ["node1", "hosted"]),
        (("hosted",), ["hosted"]),
        (("hosted", "node1"), ["node1", "hosted"]),
        (("node2", "hosted"), ["hosted"]),
    ],
)
def test_targets_are_found_among_the_named_backends(backends: tuple[str, ...], found: list[str]) -> None:
    assert [target.backend for target in find(Task(model="sentiment"), *backends)] == found


def test_a_named_backend_without_a_target_is_said_so() -> None:
    with pytest.raises(InvalidInput, match="no target at node2; it has one at hosted, node1"):
        find(Task(model="sentiment"), "node2")


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("sentimant", "did you mean 'sentiment'?"),
        ("ecco", "did you mean 'echo'?"),
        ("qwxyz", "known: echo, sentiment"),
    ],
)
def test_an_unknown_model_names_the_nearest(model: str, hint: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        find(Task(model=model))
    assert str(caught.value) == f"there is no model '{model}'; {hint}"
    with pytest.raises(UnknownModel):
        find(Task(model=model, target={"containers": ["c"]}), "node1")


def test_an_unknown_backend_names_the_nearest() -> None:
    for task in (Task(model="sentiment"), Task(target={"containers": ["c"]})):
        with pytest.raises(UnknownBackend, match=r"there is no backend 'nod1'; did you mean 'node1'\?"):
            find(task, "nod1")
    with pytest.raises(UnknownBackend, match="'qwxyz'; known: hosted, node1, node2"):
        find(Task(model="sentiment"), "node1", "qwxyz")
    with pytest.raises(UnknownModel, match="there is no model 'm'; known: none"):
        Catalogue({}, {}).find_targets(Task(model="m"), None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, ": containers is missing"),
        ({"containers": []}, ": containers: list should have at least 1 item"),
        ({"containers": "c"}, ": containers: input should be a valid list"),
        ({"containers": ["c"], "container": 1}, ": container is not a known key; did you mean 'containers'?"),
        ({"containers": ["c"], "cost": "much"}, '.cost: "much" is not an amount'),
        ({"containers": ["c"], "cost": 0.5}, ".cost: 0.5 is not an amount"),
        ({"containers": ["c"], "cost": "-1 USD"}, ".cost: -1 USD is less than nothing"),
        ({"containers": ["c"], "input": "$["}, ".input: '$[' is not a JSONPath: "),
        (
            {"containers": ["c"], "output": {"a": ["$.b", {"c": "$.a["}]}},
            ".output: '$.a[' is not a JSONPath: ",
        ),
        ({"containers": ["c"], "input": "$.a[1e5]"}, ".input: '$.a[1e5]' is not a JSONPath: "),
        ({"containers": ["c"], "input": "$no path"}, ".input: '$no path' is not a JSONPath: "),
    ],
)
def test_a_wrong_target_is_refused_at_load(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(m={"targets": {"node1": words}})
    assert str(caught.value).startswith(f"models.m.targets.node1{message}")
    assert "\n" not in str(caught.value)


def test_a_target_of_no_backend_is_refused_at_load() -> None:
    with pytest.raises(ConfigError) as caught:
        make(m={"targets": {"nod1": {"containers": ["c"]}}})
    assert str(caught.value) == "models.m.targets.nod1: there is no backend 'nod1'; did you mean 'node1'?"


def test_a_task_with_its_own_target() -> None:
    (target,) = find(Task(target={"containers": ["mine"]}), "node2")
    assert target == Target(backend="node2", words={"containers": ["mine"]})


def test_a_tasks_own_target_is_as_it_was_given_whatever_the_caller_does_to_it_later() -> None:
    containers: list[JSON] = ["mine"]
    (target,) = find(Task(target={"containers": containers}), "node2")
    containers[0] = "another"
    (later,) = find(Task(target={"containers": containers}), "node2")

    assert (target.words, later.words) == ({"containers": ["mine"]}, {"containers": ["another"]})


def test_a_tasks_own_target_lies_over_the_catalogues() -> None:
    (target,) = find(Task(model="sentiment", target={"priority": 9}), "node1")
    assert target.words == {"containers": ["sentiment"], "priority": 9}
    assert target.input == CATALOGUE.models["sentiment"].targets["node1"].input
    assert target.cost == Money.parse("5 USD")
    assert CATALOGUE.models["sentiment"].targets["node1"].words["priority"] == 3  # and changes nothing there
    (alone,) = find(Task(model="sentiment", target={"containers": ["c"]}), "node2")
    assert alone == Target(backend="node2", words={"containers": ["c"]})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "the target for node2: containers is missing"),
        ({"containers": []}, "the target for node2: containers: list should have"),
        ({"containers": ["c"], "priorty": 1}, "priorty is not a known key; did you mean 'priority'?"),
        ({"containers": ["c"], "cost": "1 USD"}, "cost is not a known key"),
    ],
)
def test_a_wrong_target_of_a_task_is_its_input(target: dict[str, JSON], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        find(Task(target=target), "node2")
    assert message in str(caught.value)


def test_a_target_of_its_own_needs_one_named_backend() -> None:
    task = Task(model="sentiment", target={"containers": ["c"]})
    for backends in (None, (), ("node1", "node2")):
        with pytest.raises(InvalidInput, match='needs a named backend, as in backend="node1"'):
            CATALOGUE.find_targets(task, backends)
    with pytest.raises(InvalidInput, match="a task needs a model, or a target and a named backend"):
        find(Task(input={}), "node1")


def test_the_target_of_an_earlier_attempt_is_found_again() -> None:
    words = {"app": "acme/sentiment@old"}
    target = CATALOGUE.get_target(Task(model="sentiment"), "hosted", words)
    assert (target.words, target.reshape_output({"result": {"text": "good"}})) == (words, "good")
    for task in (Task(), Task(model="gone from the configuration"), Task(model="echo")):
        assert CATALOGUE.get_target(task, "hosted", words) == Target(backend="hosted", words=words)


VALUE = {
    "prompt": "hi",
    "nothing": None,
    "deep": {"list": [{"n": 1}, {"n": 2}, {"n": 3}], "empty": []},
    "a b": "spaced",
    "zero": 0,
}


@pytest.mark.parametrize(
    ("shape", "result"),
    [
        ("$", VALUE),
        ("$.prompt", "hi"),
        ("$['a b']", "spaced"),
        ({"text": "$.prompt"}, {"text": "hi"}),
        (
            {"a": {"b": ["$.prompt", 1, "constant", None, True]}},
            {"a": {"b": ["hi", 1, "constant", None, True]}},
        ),
        ("$.nothing", None),
        ("$.zero", 0),
        ("$.deep.empty", []),
        ("$.deep.list[1].n", 2),
        ("$.deep.list[-1].n", 3),
        ("$.deep.list[*].n", [1, 2, 3]),
        ("$..n", [1, 2, 3]),
        ("$.deep.list[?@.n > 1].n", [2, 3]),
        ("$.deep.list[?@.n > 2].n", 3),
        ({"all": "$", "one": "$.zero"}, {"all": VALUE, "one": 0}),
        ("prompt", "prompt"),
        ("a $ in the middle", "a $ in the middle"),
        ({"$.prompt": 1}, {"$.prompt": 1}),
        ([], []),
        ({}, {}),
        (5, 5),
        (False, False),
    ],
)
def test_what_a_shape_makes(shape: JSON, result: JSON) -> None:
    assert Mapper.parse(shape, "here").apply(VALUE) == result
    target = make_target(input=shape, output=shape)
    assert target.reshape_task(Task(model="m", input=VALUE)) == Task(model="m", input=result)
    assert target.reshape_output(VALUE) == result


@pytest.mark.parametrize(
    "value", [{"other": 1}, {}, [], "prompt", '{"prompt": 1}', None, 5, True, [{"prompt": 1}]]
)
def test_what_is_not_there_is_said(value: JSON) -> None:
    target = make_target(input={"text": "$.prompt"}, output="$.prompt")
    with pytest.raises(InvalidInput, match=r"there is nothing at \$\.prompt in "):
        target.reshape_task(Task(input=value))
    with pytest.raises(InvalidInput, match=r"there is nothing at \$\.prompt in "):
        target.reshape_output(value)


def test_a_long_input_is_not_told_in_full() -> None:
    with pytest.raises(InvalidInput) as caught:
        Mapper.parse("$.a", "here").apply({"secret": "x" * 10_000})
    assert len(str(caught.value)) < 200


def test_without_a_mapping_everything_stays() -> None:
    target, task = make_target(), Task(model="m", input=VALUE)
    assert target.reshape_task(task) is task
    assert target.reshape_output(VALUE) is VALUE


def test_null_is_no_shape_and_false_is_one() -> None:
    """TOML has no null; from code it means that there is no mapping."""
    assert make_target(input=None).input is None
    assert make_target(output=False).reshape_output(VALUE) is False


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(values)
def test_the_root_path_changes_nothing(value: JSON) -> None:
    assert Mapper.parse("$", "here").apply(value) == value
    assert Mapper.parse({"wrapped": ["$"]}, "here").apply(value) == {"wrapped": [value]}


constants = st.recursive(
    st.none() | st.integers() | st.text().filter(lambda text: not text.startswith("$")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(constants, values)
def test_a_shape_without_paths_is_a_constant(shape: JSON, value: JSON) -> None:
    assert Mapper.parse(shape, "here").apply(value) == shape


syntax = st.text(".*[]()?@$'\"<>=!&|~^:,-_ 019en\\\ud800ä") | st.text()


@given(syntax, values)
def test_no_path_and_no_value_break_the_mapper(path: str, value: JSON) -> None:
    """A path of anybody's either compiles or is a ConfigError; on any value it finds, or is InvalidInput."""
    try:
        mapper = Mapper.parse(f"${path}", "here")
        mapper.apply(value)
    except (ConfigError, InvalidInput):
        return


_VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner),
    max_leaves=12,
)


@given(
    value=_VALUES, path=st.lists(st.sampled_from([".a", ".b", "[0]", "[1]", "[-1]"]), min_size=1).map("".join)
)
def test_a_simple_path_finds_what_the_library_finds(value: JSON, path: str) -> None:
    quick = Mapper.parse(f"${path}", "here")
    slow = Mapper(quick.shape, {f"${path}": jsonpath.compile(f"${path}")})
    assert (bool(quick.steps), quick.paths) == (True, {})
    assert _apply(quick, value) == _apply(slow, value)


def test_a_place_is_one_of_a_list() -> None:
    """RFC 9535, 2.3.3: an index selects nothing from an object; python-jsonpath takes it for a name there."""
    with pytest.raises(InvalidInput, match="nothing at"):
        Mapper.parse("$[0]", "here").apply({"0": 1})


def test_without_the_extra_only_what_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonpath", None)
    assert Mapper.parse({"x": "$.a[0].b", "y": "$"}, "here").apply({"a": [{"b": 1}]}) == {
        "x": 1,
        "y": {"a": [{"b": 1}]},
    }
    with pytest.raises(ConfigError, match=r"here: '\$\.a\[\*\]' needs .*inference-gateway\[jsonpath\]"):
        Mapper.parse("$.a[*]", "here")


def _apply(mapper: Mapper, value: JSON) -> JSON:
    try:
        return [mapper.apply(value)]
    except InvalidInput as error:
        return str(error)


@pytest.mark.parametrize(
    "path", ["$..a", "$.a[*]", "$['a']", "$.a[01]", "$.a[-0]", "$.a b", "a", "$.a[0:1]", ""]
)
def test_a_path_with_more_than_names_and_places_is_the_librarys(path: str) -> None:
    assert parse_steps(path) is None
