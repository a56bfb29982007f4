"""Whether what an RPC told of one block can be of one state, and how long is waited for it to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway_ogpu.contracts import parse_event
from gateway_ogpu.wire import TaskStatus

if TYPE_CHECKING:
    from gateway.chain.rpc import Log
    from gateway_ogpu.reading import TaskOnChain

PATIENCE_SECONDS = 10.0
"""So long is looked again before what does not fit together is believed all the same."""


def is_one_state(task: TaskOnChain, logs: Sequence[Log], *, from_birth: bool) -> bool:
    """Say whether a task's views and its events tell the same.

    An RPC that is just making a block, or that is many, answers one question from before it and the next from
    after it. `from_birth`: the events are all that the task ever had.
    """
    events = [event for log in logs if (event := parse_event(log)) is not None]
    answers = {event.arguments["response"] for event in events if event.name == "ResponseSubmitted"}
    if not answers <= {response.address for response in task.responses}:
        return False
    if task.status is TaskStatus.FINALIZED and task.confirmed is None:
        return False
    changes = [event.arguments["status"] for event in events if event.name == "TaskStatusChanged"]
    if not changes and not from_birth:
        return True
    return task.status == (changes[-1] if changes else TaskStatus.NEW)
