"""Reading targets' words: what is wrong is named, and what is the very same is read once."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from gateway.errors import InvalidInput
from gateway.targets import Targets
from gateway.types import JSON


class Words(BaseModel):
    model_config = ConfigDict(extra="forbid")

    containers: list[str]
    priority: int = 0


def test_each_wrong_word_is_named_with_the_backend() -> None:
    with pytest.raises(InvalidInput) as caught:
        Targets(Words, "node1").read({"containers": "echo", "colour": "red"})
    for part in ("the target for node1 is wrong", "containers: ", "colour: "):
        assert part in str(caught.value)


def test_the_very_same_target_is_read_once() -> None:
    targets, model = Targets(Words, "node1"), dict[str, JSON](containers=["echo"])
    assert targets.read(model) is targets.read(model)


def test_another_target_is_read_anew_though_it_is_alike() -> None:
    targets = Targets(Words, "node1")
    first = targets.read({"containers": ["echo"]})
    assert targets.read({"containers": ["other"]}).containers == ["other"]
    again = targets.read({"containers": ["echo"]})
    assert (again, again is first) == (first, False)


def test_a_wrong_target_does_not_stand_for_the_next() -> None:
    targets, right = Targets(Words, "node1"), dict[str, JSON](containers=["echo"])
    targets.read(right)
    for _ in range(2):
        with pytest.raises(InvalidInput):
            targets.read({})
    assert targets.read(right).containers == ["echo"]
