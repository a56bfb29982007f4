"""What the library logs, as lines on the terminal; tracebacks only with --debug."""

from __future__ import annotations

import argparse
import logging

from gateway.cli.words import clean


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        why = f": {type(error).__name__}: {error}" if error is not None else ""
        return clean(f"gateway: {record.getMessage()}{why}")


def set_up_logging(*, debug: bool) -> None:
    """Send warnings to stderr; with `debug` everything of the gateway, with tracebacks."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s") if debug else _OneLine()
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("psycopg").setLevel(logging.DEBUG if debug else logging.ERROR)  # we say it ourselves
    logging.getLogger("gateway").setLevel(logging.DEBUG if debug else logging.WARNING)


def set_up_service_logging(form: str, *, debug: bool) -> None:
    """Write what a service logs to stderr, with the ids of runs and attempts; `form` is "text" or "json"."""
    from gateway.observe.logs import JsonLines, TextLines

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines(with_traceback=debug))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gateway").setLevel(logging.DEBUG if debug else logging.WARNING)


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """Take how the lines of the log are written."""
    parser.add_argument(
        "--log-format", choices=("text", "json"), help="how log lines are written (observability.logs: text)"
    )
