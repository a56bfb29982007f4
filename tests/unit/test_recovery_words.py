"""What `gateway recover` says that it found and did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.engine.recovery import tell_done
from gateway.task import Event

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)


def make_events(before: list[str], after: list[str]) -> list[Event]:
    times = [BEGAN - timedelta(seconds=1)] * len(before) + [BEGAN] * len(after)
    messages = zip([*before, *after], times, strict=True)
    return [Event(kind="attempt", attempt=1, message=message, at=at) for message, at in messages]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (["prepared", "submitted"], [], "nothing has changed"),
        (["prepared", "submitted"], ["succeeded"], "attempt 1 succeeded"),
        (["prepared"], ["in_doubt", "submitted"], "attempt 1 had landed"),
        (["prepared", "in_doubt: no answer"], ["submitted"], "attempt 1 had landed"),
        (["prepared"], ["in_doubt", "prepared", "submitted"], "attempt 1 had not landed, and was sent"),
        (["prepared", "in_doubt", "prepared"], ["submitted"], "attempt 1 had not landed, and was sent"),
        (["prepared"], ["in_doubt", "refused: expired"], "attempt 1 had not landed, and can't any more"),
        (["prepared"], ["in_doubt", "unresolved: why"], "attempt 1 may have landed: nobody can say"),
        ([], ["prepared", "submitted", "lost"], "attempt 1 was sent; attempt 1 was forgotten by its backend"),
        ([], ["prepared", "refused: no"], "attempt 1 was refused"),
    ],
)
def test_what_was_done_is_told(before: list[str], after: list[str], told: str) -> None:
    assert tell_done(make_events(before, after), BEGAN) == told
