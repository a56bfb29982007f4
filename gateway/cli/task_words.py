"""The words of a command line that make a Task."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

from gateway.cli.exits import UsageError
from gateway.cli.limit_words import add_limit_arguments, add_owner_arguments, make_limits
from gateway.reading import Selected
from gateway.task import Task
from gateway.types import JSON


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Take a model, an input, a backend, and limits."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model of the configuration")
    given = parser.add_argument_group("input (JSON on standard input if none is given)")
    which = given.add_mutually_exclusive_group()
    which.add_argument("--input", metavar="JSON", help="the input; - reads standard input")
    which.add_argument("--text", metavar="WORDS", help='short for --input \'{"text": "WORDS"}\'')
    which.add_argument("--input-file", metavar="PATH", type=Path, help="a file with the input as JSON")
    given.add_argument(
        "--file", metavar="FIELD=PATH", action="append", default=[], help="a file as a field of the input"
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--backend",
        metavar="WHICH",
        help="auto, auto:cheapest, auto:fastest, auto:reliable, a name, or names in order: a,b (auto)",
    )
    where.add_argument("--target", metavar="JSON", help="words of the named backend, instead of a model's")
    add_limit_arguments(parser)
    add_owner_arguments(parser)


def make_task(args: argparse.Namespace, *, stream: bool = False) -> Task:
    """Make the task that the words describe. Raises UsageError."""
    if args.model is None and args.target is None:
        raise UsageError("name a model, or give --target and --backend; `gateway models` lists the models")
    target = None if args.target is None else _parse_json(args.target, "--target")
    if target is not None and not isinstance(target, dict):
        raise UsageError('--target is a JSON object, as in \'{"containers": ["echo"]}\'')
    return Task(
        model=args.model,
        input=_add_files(_load_input(args), args.file),
        target=target,
        stream=stream,
        limits=make_limits(args),
        accept=args.accept,
    )


def get_backend(args: argparse.Namespace) -> Selected:
    """Return the selector: one word, or several in order."""
    if args.backend is None:
        return "auto"
    names = [name.strip() for name in args.backend.split(",") if name.strip()]
    return names if len(names) > 1 else args.backend


def _load_input(args: argparse.Namespace) -> JSON:
    if args.text is not None:
        return {"text": args.text}
    if args.input_file is not None:
        try:
            text = args.input_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--input-file {args.input_file} can't be read: {_get_reason(error)}") from error
        return _parse_json(text, f"the file {args.input_file}")
    if args.input not in (None, "-"):
        return _parse_json(args.input, "--input")
    if args.input is None and (args.file or sys.stdin.isatty()):
        if args.file:
            return {}
        raise UsageError("give --input, --text or --input-file, or pipe JSON into it")
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not JSON: {_get_reason(error)}") from error
    if not text.strip():
        raise UsageError("there is no input: standard input is empty, and no --input, --text or --input-file")
    return _parse_json(text, "standard input")


def _parse_json(text: str, what: str) -> JSON:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{what} is not JSON: {error}") from error
    except RecursionError:
        raise UsageError(f"{what} is nested too deeply") from None


def _add_files(given: JSON, files: list[str]) -> JSON:
    from gateway.files import File

    for word in files:
        field, equals, path = word.partition("=")
        if not (field and equals and path):
            raise UsageError(f"--file {word!r}: write it as FIELD=PATH")
        if not isinstance(given, dict):
            raise UsageError("--file needs an input that is a JSON object")
        if not Path(path).is_file():
            raise UsageError(f"--file {field}: there is no file {path}{_suggest_file(Path(path))}")
        given = {**given, field: File(path=path)}
    return given


def _get_reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is no UTF-8 text"


def _suggest_file(path: Path) -> str:
    try:
        near = difflib.get_close_matches(
            path.name, [one.name for one in path.parent.iterdir() if one.is_file()], n=1
        )
    except OSError:
        return ""
    return f"; did you mean {path.with_name(near[0])}?" if near else ""
