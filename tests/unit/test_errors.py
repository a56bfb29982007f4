"""The tree in the docstring is the real one, and each leaf says what became of the act and its money."""

from __future__ import annotations

import inspect
import pickle
import re
from datetime import UTC, datetime, timedelta

import pytest

from gateway import errors
from gateway.errors import BackendError, CostOutcome, GatewayError, NoBackend, RunFailed, WaitTimeout
from gateway.lifecycle import AttemptStatus, Status
from gateway.task import Attempt, Cost, Failure, FailureKind, Run, Task
from gateway.types import AttemptId, RunId

AT = datetime(2030, 1, 1, tzinfo=UTC)
FACTS = {
    "Rejected": (False, False, True),
    "Unavailable": (False, True, True),
    "Throttled": (False, True, True),
    "InDoubt": (None, False, False),
    "Misbehaved": (None, False, False),
}
"""landed, here, elsewhere, as the design has them."""
LINE = re.compile(r"^    ([│├└─ ]*)([A-Z]\w+)(?: +(.*))?$")


def list_subclasses(root: type[GatewayError]) -> list[type[GatewayError]]:
    """Return the root and all that come from it."""
    return [root, *(found for cls in root.__subclasses__() for found in list_subclasses(cls))]


ALL = [cls for cls in list_subclasses(GatewayError) if cls.__module__ == "gateway.errors"]
BACKEND_ERRORS = [cls for cls in ALL if issubclass(cls, BackendError)]


def parse_drawing() -> tuple[dict[str, str | None], dict[str, str]]:
    """Return each name's parent, and the words beside it, as drawn in the module's docstring."""
    parents: dict[str, str | None] = {}
    words: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        parents[match[2]] = above[depth - 1] if depth else None
        words[match[2]] = match[3] or ""
        above[depth:] = [match[2]]
    return parents, words


def get_parent(cls: type[BaseException]) -> str | None:
    """Return the one base that is the gateway's (WaitTimeout is a TimeoutError besides)."""
    ours = [base.__name__ for base in cls.__bases__ if base in ALL]
    assert len(ours) == (cls is not GatewayError)
    return ours[0] if ours else None


def test_the_drawing_is_the_tree() -> None:
    parents, _ = parse_drawing()
    assert parents == {cls.__name__: get_parent(cls) for cls in ALL}
    assert len(parents) > 20


def test_no_error_of_the_gateway_is_elsewhere() -> None:
    import gateway.adapter
    import gateway.http
    import gateway.store.sqlite  # noqa: F401  the modules that could have brought one

    # The kits that adapters stand on, and the faces above, have leaves of their own; the core has none.
    kits, faces = ("gateway.chain", "gateway.content"), ("gateway.cli", "gateway.server", "gateway.mcp")
    beside = (*kits, *faces, "gateway.devnet", "gateway.testing")
    ours = [
        cls
        for cls in list_subclasses(GatewayError)
        if cls.__module__.startswith("gateway.") and not cls.__module__.startswith(beside)
    ]
    assert set(ours) == set(ALL)
    assert all(cls.__doc__ for cls in ALL)


def test_the_backends_errors_say_what_became_of_the_act() -> None:
    found = {cls.__name__: (cls.landed, cls.here, cls.elsewhere) for cls in BACKEND_ERRORS}
    assert found.pop("BackendError") == (None, False, False)  # the root promises nothing
    assert found == FACTS


def test_the_drawing_tells_the_same_facts() -> None:
    _, words = parse_drawing()
    signs = {None: "?", False: "no", True: "yes"}
    for name, facts in FACTS.items():
        assert "/".join(signs[fact] for fact in facts) in words[name], name


@pytest.mark.parametrize("cls", BACKEND_ERRORS)
def test_a_backends_error_names_it_and_says_what_it_may_have_cost(cls: type[BackendError]) -> None:
    error = cls("it said no", backend="node1")
    assert str(error) == "node1: it said no"
    assert (error.message, error.backend) == ("it said no", "node1")
    expected = CostOutcome.NOT_CHARGED if cls.landed is False else CostOutcome.UNKNOWN
    assert error.cost_outcome is expected
    assert str(cls("it said no")) == "it said no"


@pytest.mark.parametrize("cls", BACKEND_ERRORS)
def test_a_backends_error_keeps_all_that_was_told(cls: type[BackendError]) -> None:
    facts = {
        "job_id": "j",
        "code": "c",
        "http_status": 429,
        "retry_after": timedelta(seconds=3),
        "detail": {"a": 1},
    }
    error = cls("no", backend="b", **facts)  # type: ignore[arg-type]  # by name
    assert {name: getattr(error, name) for name in facts} == facts
    bare = cls("no")
    assert {name: getattr(bare, name) for name in facts} == dict.fromkeys(facts)


def make_error(cls: type[GatewayError]) -> GatewayError:
    """Make an error of any class, with something for everything that it asks for."""
    words: dict[str, object] = {"message": "words", "run_id": "run_1", "run": make_run(), "budget": "the day"}
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    return cls(**{name: words.get(name, 7) for name in needed}) if needed else cls("words")


@pytest.mark.parametrize("cls", ALL)
def test_every_error_can_be_raised_with_what_it_is_about(cls: type[GatewayError]) -> None:
    with pytest.raises(GatewayError, match=r"words|run_1|the day") as caught:
        raise make_error(cls)
    assert caught.value.cost_outcome in CostOutcome


@pytest.mark.parametrize("cls", ALL)
def test_every_error_can_be_sent_to_another_process(cls: type[GatewayError]) -> None:
    """One that can't be unpickled takes the whole pool of concurrent.futures down with it."""
    error = make_error(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def make_run(outcome: CostOutcome = CostOutcome.CHARGED, failure: Failure | None = None) -> Run:
    attempt = Attempt(
        id=AttemptId("a"),
        number=1,
        backend="node1",
        address="",
        target={},
        status=AttemptStatus.FAILED,
        created_at=AT,
        cost=Cost(outcome=outcome),
    )
    return Run(
        id=RunId("run_1"),
        task=Task(),
        backend="auto",
        status=Status.FAILED,
        created_at=AT,
        updated_at=AT,
        attempts=(attempt,),
        failure=failure,
    )


@pytest.mark.parametrize("outcome", CostOutcome)
def test_a_failed_run_tells_its_story_and_its_cost(outcome: CostOutcome) -> None:
    failure = Failure(kind=FailureKind.JOB, message="it broke", backend="node1")
    run = make_run(outcome, failure)
    error = RunFailed(run)
    assert error.run is run
    assert error.run_id == "run_1"
    assert error.cost_outcome is outcome
    assert str(error) == "run run_1 ended FAILED: it broke"
    assert "FAILED" in str(RunFailed(make_run()))


def test_what_was_never_submitted_costs_nothing_and_what_goes_on_may() -> None:
    unknown = {cls.__name__ for cls in ALL if cls.cost_outcome is not CostOutcome.NOT_CHARGED}
    assert unknown == {"WaitTimeout"}
    assert isinstance(WaitTimeout("still going", run_id="run_1"), TimeoutError)


def test_no_backend_lists_every_candidate_with_its_reason() -> None:
    removed = [("node1", "unhealthy", "it is down"), ("hosted", "max_cost", "it costs too much")]
    error = NoBackend("no backend can run this task", removed)
    assert str(error) == "no backend can run this task: node1: it is down; hosted: it costs too much"
    assert error.removed == tuple(removed)
    assert str(NoBackend("nothing")) == "nothing"
