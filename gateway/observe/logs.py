"""Log lines with the ids of the run and the attempt that they are about, for machines and for people."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from gateway.observe.context import WORKING_ON


def find_ids() -> dict[str, str]:
    """Return the ids of what is worked on here: run_id, attempt_id and backend, as far as there are any."""
    working_on = WORKING_ON.get()
    if working_on is None:
        return {}
    run = working_on.run
    if run.attempt is None:
        return {"run_id": run.id}
    return {"run_id": run.id, "attempt_id": run.attempt.id, "backend": run.attempt.backend}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the ids, and an error with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **find_ids(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """A line for people: time, level, message, the ids, and an error's own words."""

    def __init__(self, *, with_traceback: bool = False) -> None:
        super().__init__()
        self._with_traceback = with_traceback

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        ids = "".join(f" {name}={value}" for name, value in find_ids().items())
        error = record.exc_info[1] if record.exc_info else None
        why = f": {type(error).__name__}: {error}" if error is not None else ""
        told = f"{record.getMessage()}{why}"
        message = "".join(c if c.isprintable() else " " for c in told)  # a backend's words stay words
        line = f"{time} {record.levelname} {record.name}: {message}{ids}"
        if self._with_traceback and record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
