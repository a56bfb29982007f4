"""The command `gateway`: finds the words' module, runs it, and turns what happens into an exit status."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from gateway.cli.exits import INTERRUPTED, UNREAD, UNWRITTEN, choose_exit, describe_error
from gateway.cli.parser import Parser, add_global_options

COMMANDS = {
    "run": ("gateway.cli.run", "run a task, wait for it and print its answer"),
    "submit": ("gateway.cli.run", "give a task away and print its run's id"),
    "get": ("gateway.cli.follow", "show a run"),
    "watch": ("gateway.cli.follow", "follow a run to its end"),
    "cancel": ("gateway.cli.follow", "end a run"),
    "accept": ("gateway.cli.follow", "accept, and pay for, one of a run's answers"),
    "runs": ("gateway.cli.follow", "list runs"),
    "costs": ("gateway.cli.costs", "sum up what was quoted, is reserved and was settled"),
    "settle": ("gateway.cli.settle", "say what a run cost of which nobody knew it"),
    "worker": ("gateway.cli.worker", "work on the runs of a shared store until it is told to stop"),
    "prune": ("gateway.cli.archive", "forget runs that ended long ago"),
    "export": ("gateway.cli.archive", "print every run, with its attempts and costs, as JSON lines"),
    "recover": ("gateway.cli.recover", "finish the runs that a dead process left behind"),
    "plan": ("gateway.cli.look", "show where a task would go, and why"),
    "backends": ("gateway.cli.look", "show every backend's health"),
    "models": ("gateway.cli.look", "show the models and their targets"),
    "doctor": ("gateway.cli.doctor", "check the installation and the configuration"),
    "ogpu": ("gateway.cli.ogpu", "sources, money and single tasks of OGPU"),
    "serve": ("gateway.cli.serve", "serve the gateway over HTTP"),
    "keys": ("gateway.cli.keys", "make, list and revoke the server's API keys"),
    "mcp": ("gateway.cli.mcp", "serve assistants: quote, run, get and cancel as MCP tools"),
    "devnet": ("gateway.cli.devnet", "run local stand-ins of the backends, to try everything"),
    "demo": ("gateway.cli.demo", "show in half a minute what the gateway does"),
}

_EPILOG = """\
exit status:
  0  done
  1  the run failed
  2  wrong usage or configuration; nothing was submitted
  3  no backend could take the task; nothing was submitted
  4  only the waiting ended: the run goes on
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; prints, and raises nothing."""
    words = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in words
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an answer may hold what the terminal can't show
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")  # JSON is, whatever the terminal's words are
    try:
        args = _make_parser(words).parse_args(words)
        return _call(args)
    except SystemExit as end:  # argparse has printed the help or the version
        return int(end.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _let_go(sys.stdout)
        return UNREAD
    except Exception as error:  # noqa: BLE001  the last resort: a sentence and a status, never a traceback
        if debug:
            import traceback

            traceback.print_exception(error)
        status = choose_exit(error)
        if status == UNWRITTEN:
            _let_go(sys.stdout)
        _tell(f"gateway: {describe_error(error)}\n")
        return status
    finally:
        _tell("")  # what is left of the progress


def _open_closed_streams() -> None:
    """Give the process the standard streams that it was started without, as by `>&-`: they lead nowhere."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _let_go(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # nobody reads on: say no more


def _tell(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _let_go(sys.stderr)  # the exit status says it all the same


def _call(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli.logs import set_up_logging

    set_up_logging(debug=args.debug)
    with asyncio.Runner(loop_factory=getattr(args, "loop_factory", None)) as runner:
        status: int = runner.run(args.call(args))
    sys.stdout.flush()
    return status


def _make_parser(words: Sequence[str]) -> Parser:
    parser = Parser(
        prog="gateway",
        description="One call over many inference backends: a paid task is never lost, nor paid for twice.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    parser.set_defaults(config=None, debug=False)
    add_global_options(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name in words:  # the others stay unloaded: the command starts quickly
            import_module(module).add_arguments(name, command)
            add_global_options(command)
    return parser


class _Version(argparse.Action):
    """Print the version; looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"gateway {version('inference-gateway')}")
        parser.exit()
