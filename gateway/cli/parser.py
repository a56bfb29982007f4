"""argparse, with errors of one sentence and the nearest right word."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any, NoReturn

from gateway.cli.exits import UsageError

_INVALID_CHOICE = re.compile(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError instead of printing its usage and exiting."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they are

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse; what is left over is refused here, where it is known which command's it was to be."""
        found, left = super().parse_known_args(args, namespace)
        options = [word.partition("=")[0] for word in left if word.startswith("-")]
        if options:
            near = difflib.get_close_matches(options[0], self._option_string_actions, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.error(f"there is no option {options[0]!r}{hint}")
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{_improve(message)} (see `{self.prog} --help`)")


def add_global_options(parser: argparse.ArgumentParser, *, config: bool = True) -> None:
    """Take them before and after a command, and after its orders; without `config` where it means another."""
    group = parser.add_argument_group("for every command")
    if config:
        group.add_argument(
            "--config",
            metavar="PATH",
            default=argparse.SUPPRESS,
            help="the configuration (default: as searched)",
        )
    group.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error came from"
    )


def _improve(message: str) -> str:
    match = _INVALID_CHOICE.fullmatch(message)
    if match is None:
        return message
    what, word, listed = match.groups()
    known = [item.strip().strip("'") for item in listed.split(",")]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"there is no {what.split('/')[0].lower()} {word!r}; {hint}"
