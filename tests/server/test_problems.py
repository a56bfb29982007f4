from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway import errors
from gateway.errors import GatewayError
from gateway.server.problems import KINDS, NO_BACKEND_EVER, REFUSALS, find_kind, make_problem


def list_tree(cls: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from list_tree(child)


@pytest.mark.parametrize("cls", sorted(set(list_tree(GatewayError)), key=str))
def test_every_error_has_its_own_place_in_the_table(cls: type[GatewayError]) -> None:
    assert cls in KINDS
    assert 400 <= KINDS[cls].status < 600


def test_the_table_names_nothing_else_and_no_problem_twice() -> None:
    assert set(KINDS) == set(list_tree(GatewayError))
    assert all(inspect.isclass(cls) for cls in KINDS)
    slugs = [kind.slug for kind in (*KINDS.values(), *REFUSALS)]
    assert len(slugs) == len(set(slugs))


def test_a_strangers_error_is_told_as_the_nearest_class() -> None:
    class Odd(errors.Unavailable):
        pass

    assert find_kind(Odd("x")) is KINDS[errors.Unavailable]
    assert find_kind(ValueError("x")).status == 500


def test_what_may_pass_is_a_503_and_what_cannot_a_422() -> None:
    for rules, kind in (
        (["unhealthy", "only"], KINDS[errors.NoBackend]),
        (["breaker"], KINDS[errors.NoBackend]),
        (["only", "feature"], NO_BACKEND_EVER),
        ([], NO_BACKEND_EVER),
    ):
        assert find_kind(errors.NoBackend("none", [("b", rule, "so") for rule in rules])) is kind


def test_a_problem_tells_what_is_known_and_no_detail_of_a_backend() -> None:
    error = errors.Throttled("slow down", backend="b", retry_after=timedelta(seconds=7), detail={"secret": 1})
    problem = make_problem(error)
    assert problem.headers == ((b"retry-after", b"7"),)
    body = problem.make_body("/v1/runs")
    assert body["status"] == problem.kind.status == 429
    assert {"type", "title", "status", "detail", "instance"} <= set(body)
    assert "secret" not in str(body)


def test_where_the_store_is_is_told_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    problem = make_problem(errors.StoreError("the store /var/lib/secret/runs.db: disk full"))
    assert (problem.kind.status, "secret" in str(problem.make_body("/v1/runs"))) == (503, False)
    assert "/var/lib/secret/runs.db: disk full" in caplog.text
