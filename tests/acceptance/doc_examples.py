"""Finds the examples in the documentation and runs them as a reader would, a folder and a namespace per page.

- ```python blocks run in one process per page, in order. A ```text block right below is what they print.
- ```console and ```sh blocks: each line that begins with "$ " is a command, what follows it is its output. A
  command must succeed unless the next one is `echo $?`.
- ```toml blocks are read as a gateway.toml; backends that they don't define are the devnet's.

In an output that is shown, "..." stands for anything, and runs of blanks are one blank.
An HTML comment above a block changes this: `<!-- not run: why -->`, `<!-- keeps running -->` (the command is
left running until the page's end), `<!-- file: NAME -->` (the block is written to that file).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, Example, OutputChecker
from pathlib import Path
from typing import Any

RUN = frozenset({"python", "console", "sh", "toml"})
_FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE
_MARK = re.compile(r"<!-- (not run|file|keeps running)(?:: (.*))? -->")
_SECONDS = 60.0
_END_SECONDS = 60.0

_DRIVER = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    text, where = json.loads(line)
    said, error = io.StringIO(), None
    with contextlib.redirect_stdout(said):
        try:
            exec(compile(text, where, "exec"), names)
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps([said.getvalue(), error]), flush=True)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    word: str = ""
    shown: str | None = None  # the output that stands below a python block

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


@dataclass(frozen=True)
class Command:
    """One command of a console block, and the output that is shown for it."""

    line: str
    shown: str


def parse_blocks(page: str, text: str) -> list[Block]:
    """Return a page's fenced blocks in order."""
    blocks: list[Block] = []
    lines = text.splitlines()
    number, mark, since = 0, ("", ""), 0
    while number < len(lines):
        line = lines[number]
        if found := _MARK.fullmatch(line.strip()):
            mark = (found[1], (found[2] or "").strip())
        elif line.startswith("```"):
            end = next(n for n in range(number + 1, len(lines)) if lines[n].startswith("```"))
            body = "\n".join(lines[number + 1 : end]) + "\n"
            language = line[3:].strip()
            alone = any(item.strip() for item in lines[since:number])
            if language == "text" and blocks and blocks[-1].language == "python" and not alone:
                last = blocks.pop()
                blocks.append(
                    Block(page, last.line, last.language, last.text, last.mark, last.word, shown=body)
                )
            else:
                blocks.append(Block(page, number + 1, language, body, *mark))
            number, mark, since = end, ("", ""), end + 1
        elif line.strip():
            mark = ("", "")
        number += 1
    return blocks


def parse_commands(block: Block) -> list[Command]:
    """Return the commands of a console block."""
    commands: list[Command] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = f"{command[:-1]}{next(lines).strip()}"
            commands.append(Command(command, ""))
        else:
            assert commands, f"{block}: output before the first command"
            commands[-1] = Command(commands[-1].line, f"{commands[-1].shown}{line}\n")
    return commands


def compare(shown: str, said: str) -> str | None:
    """Return what differs, or None."""
    checker = OutputChecker()
    # A blank line can't be told from no line in the page's margin, so neither side has them.
    want, got = (re.sub(r"\n\s*\n", "\n", text.strip()) + "\n" for text in (shown, said))
    if checker.check_output(want, got, _FLAGS):
        return None
    return checker.output_difference(Example("", want), got, _FLAGS)


@dataclass
class Reader:
    """Somebody who reads a page and does what it says."""

    folder: Path
    environment: Mapping[str, str]
    backends: Mapping[str, Any]  # the devnet's, for toml blocks that need some
    _python: subprocess.Popen[str] | None = None
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def follow(self, block: Block) -> None:
        """Run one block, or fail with what went otherwise than it says."""
        if block.mark == "file":
            (self.folder / block.word).write_text(block.text, encoding="utf-8")
        if block.mark == "not run" or block.language not in RUN:
            return
        if block.language == "toml":
            self._load(block)
        elif block.mark == "keeps running":
            self._start(block)
        elif block.language == "python":
            if block.mark != "file":
                self._execute(block)
        else:
            self._type(block)

    def close(self) -> None:
        """End what was started. Raises AssertionError if Python does not end well."""
        for process in self._running:
            process.send_signal(signal.SIGINT)
            process.wait(_SECONDS)
        if self._python is not None:
            with self._python as python:  # leaves it ended and its pipes closed, whatever happens
                try:
                    said, _ = python.communicate(timeout=_END_SECONDS)
                except subprocess.TimeoutExpired:
                    python.kill()
                    raise
            assert python.returncode == 0, f"Python ended {python.returncode}: {said}"

    def _execute(self, block: Block) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", _DRIVER],
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin
        assert self._python.stdout
        self._python.stdin.write(json.dumps([block.text, f"{block.page}:{block.line}"]) + "\n")
        self._python.stdin.flush()
        answer = self._python.stdout.readline()
        assert answer, f"{block}: Python has ended"
        said, error = json.loads(answer)
        assert error is None, f"{block} raised\n{said}{error}"
        if block.shown is not None:
            difference = compare(block.shown, said)
            assert difference is None, f"{block} prints something else\n{difference}"

    def _type(self, block: Block) -> None:
        commands, status = parse_commands(block), 0
        for command, following in zip(commands, [*commands[1:], None], strict=True):
            done = subprocess.run(
                ["bash", "-c", f"(exit {status})\n{command.line}"],
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
            status = done.returncode
            may_fail = following is not None and following.line == "echo $?"
            assert status == 0 or may_fail, f"{block}: $ {command.line}\nended {status}: {done.stdout}"
            difference = compare(command.shown, done.stdout) if command.shown else None
            assert difference is None, f"{block}: $ {command.line}\nsays something else\n{difference}"

    def _start(self, block: Block) -> None:
        """Start a command that goes on, and wait until it has said what is shown."""
        (command,) = parse_commands(block)
        path = self.folder / f".output-{block.line}"
        with path.open("wb") as file:
            process = subprocess.Popen(
                command.line.split(),
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._running.append(process)
        end, difference = time.monotonic() + _SECONDS, ""
        while time.monotonic() < end and process.poll() is None:
            difference = compare(command.shown, path.read_text()) or ""
            if not difference:
                return
            time.sleep(0.05)
        raise AssertionError(f"{block}: it ended with {process.poll()} or says something else\n{difference}")

    def _load(self, block: Block) -> None:
        """Read it as a gateway.toml, with every target checked by its adapter."""
        from gateway.catalogue import Catalogue
        from gateway.clock import SystemClock
        from gateway.config import BackendSettings, load
        from gateway.registry import make_adapters

        path = self.folder / ".example.toml"
        path.write_text(block.text, encoding="utf-8")
        names = re.findall(r'"env:(\w+)"', block.text)
        for name in re.findall(r'"file:([^"]+)"', block.text):
            if not (self.folder / name).exists():
                (self.folder / name).write_text("a secret\n")
        config = load(path, dict.fromkeys(names, f"0x{'1' * 64}"))
        own = tomllib.loads(block.text).get("backends", {})
        lent = {name: BackendSettings(**table) for name, table in self.backends.items() if name not in own}
        Catalogue(config.models, make_adapters({**lent, **config.backends}, SystemClock()))


def make_environment(home: Path, **more: str) -> dict[str, str]:
    """Return what a reader's shell has: our program on the path, and a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "XDG_"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "110",
        "NO_COLOR": "1",
        **more,
    }


def find_links(text: str) -> Iterator[str]:
    """Return the targets of a page's links, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(r"\[[^\]]*\]\(([^)\s]+)\)", prose):
        yield found[1]


def make_anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
