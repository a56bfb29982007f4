"""How a run is shown while it runs, on stderr: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.cli.words import clean, format_seconds, format_summary
from gateway.task import Event, Run

_log = logging.getLogger(__name__)
_REDRAW_SECONDS = 0.1
_ERASE = "\r\x1b[K"


class View(Protocol):
    """Shows one run."""

    def begin(self, run: Run) -> None:
        """Say which run it is."""

    def take(self, event: Event) -> None:
        """Show one event."""

    def pause(self) -> None:
        """Leave the terminal to somebody else's words, from now on."""

    def end(self, run: Run) -> None:
        """Say how it ended."""


class Silent:
    """Shows nothing."""

    def begin(self, run: Run) -> None:
        """See View."""

    def take(self, event: Event) -> None:
        """See View."""

    def pause(self) -> None:
        """See View."""

    def end(self, run: Run) -> None:
        """See View."""


class PlainLines:
    """One line per change."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def begin(self, run: Run) -> None:
        """See View."""
        self._say(f"run {run.id}")

    def take(self, event: Event) -> None:
        """See View."""
        text = describe_event(event)
        if text is not None:
            self._say(text)

    def pause(self) -> None:
        """Lines disturb nobody."""

    def end(self, run: Run) -> None:
        """See View."""
        self._say(format_summary(run))

    def _say(self, text: str) -> None:
        try:
            print(f"[{time.monotonic() - self._begun:6.2f} s] {clean(text)}", file=sys.stderr, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:  # a full disk under the log ends no waiting
            _log.debug("progress can't be written: %s", error)


class LiveLine:
    """One line that is drawn again and again in its place: status, backend, attempt, time."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._run_id = ""
        self._status, self._where, self._message = "RECEIVED", "", ""
        self._drawing = True

    def begin(self, run: Run) -> None:
        """See View."""
        self._run_id, self._status = run.id, run.status.name
        self.draw()

    def take(self, event: Event) -> None:
        """See View."""
        if event.status is not None:
            self._status = event.status.name
        if event.kind == "attempt":
            self._where = f"{event.backend}, attempt {event.attempt}"
            self._message = event.message or ""
        if event.snapshot is not None:
            self._message = event.snapshot.message or ""
        self.draw()

    def draw(self) -> None:
        """Draw the line as it is now."""
        if not self._drawing:
            return
        took = format_seconds(time.monotonic() - self._begun)
        parts = [self._run_id, self._status, self._where, took, self._message]
        line = clean(" | ".join(part for part in parts if part))
        most = shutil.get_terminal_size().columns - 1
        sys.stderr.write(_ERASE + line[:most])
        sys.stderr.flush()

    def pause(self) -> None:
        """See View."""
        if self._drawing:
            self._drawing = False
            sys.stderr.write(_ERASE)
            sys.stderr.flush()

    def end(self, run: Run) -> None:
        """See View."""
        self.pause()
        print(clean(f"{run.id} | {format_summary(run)}"), file=sys.stderr, flush=True)


@asynccontextmanager
async def open_view(*, quiet: bool = False) -> AsyncIterator[View]:
    """Choose how to show a run: the live line is redrawn for as long as the block lasts."""
    if quiet:
        yield Silent()
        return
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    line = LiveLine()
    drawing = asyncio.create_task(_redraw(line))
    try:
        yield line
    finally:
        drawing.cancel()
        line.pause()


async def _redraw(line: LiveLine) -> None:
    while True:
        await asyncio.sleep(_REDRAW_SECONDS)
        line.draw()


def describe_event(event: Event) -> str | None:
    """Return an event in one line; None for those that say nothing new to a person."""
    if event.kind == "attempt":
        return f"attempt {event.attempt} at {event.backend}: {event.message}"
    if event.kind == "status" and event.status is not None:
        return event.status.name
    if event.kind == "snapshot" and event.snapshot is not None and event.snapshot.message:
        return event.snapshot.message
    return None
