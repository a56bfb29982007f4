"""The reference pages have the tables of the code: configuration, library, statuses, errors, command line."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from doc_examples import parse_blocks
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import gateway
from gateway import errors
from gateway.cli import main as cli_main
from gateway.config import (
    BackendSettings,
    BudgetSettings,
    Config,
    GatewaySettings,
    LimitsConfig,
    ModelSettings,
    ObservabilitySettings,
    OpenAISettings,
    RateSettings,
    ServerSettings,
    ShapeSettings,
)
from gateway.devnet.faults import Fault
from gateway.devnet.ogpu import ChainFault, ContentFault, Manner
from gateway.lifecycle import ATTEMPT_NEXT, RUN_NEXT, AttemptStatus, Status
from gateway.task import FailureKind
from gateway_inferencesh import InferenceshConfig, InferenceshTarget
from gateway_infernet import InfernetConfig, InfernetTarget
from gateway_infernet.config import ChainConfig, DelegatedTarget
from gateway_ogpu import OgpuConfig, OgpuTarget

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def load_tables(name: str) -> dict[str, list[list[str]]]:
    """Return the rows of a page's tables (without their heads) by heading; several tables are one."""
    tables: dict[str, list[list[str]]] = {}
    heading, is_head = "", True
    for line in (REFERENCE / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            is_head = True
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if is_head:
            is_head = False
        elif set(line) - set("|- "):
            tables.setdefault(heading, []).append(cells)
    return tables


def say_default(model: type[BaseModel], name: str) -> str:
    default = model.model_fields[name].default
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, timedelta):
        return f'`"{default.days}d"`' if default.days else f'`"{default.seconds}s"`'
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, str):
        return f'`"{default}"`'
    return f"`{list(default) if isinstance(default, tuple) else default}`"


LIMITS = frozenset(LimitsConfig.model_fields)
CONFIGURATION: Mapping[str, tuple[type[BaseModel], frozenset[str]]] = {
    "The table [gateway]": (GatewaySettings, LIMITS),
    "The table [backends.NAME]": (BackendSettings, frozenset()),
    "Keys of an Infernet backend": (InfernetConfig, frozenset()),
    "Keys of [backends.NAME.chain]": (ChainConfig, frozenset()),
    "Keys of an inference.sh backend": (InferenceshConfig, frozenset()),
    "Keys of an OGPU backend": (OgpuConfig, frozenset()),
    "The table [models.NAME]": (ModelSettings, LIMITS),
    "The table [models.NAME.openai]": (OpenAISettings, frozenset()),
    "Shapes": (ShapeSettings, frozenset()),
    "Words of an Infernet target": (InfernetTarget, frozenset()),
    "Words of `delegated`": (DelegatedTarget, frozenset()),
    "Words of an inference.sh target": (InferenceshTarget, frozenset()),
    "Words of an OGPU target": (OgpuTarget, frozenset()),
    "The table [rates.ASSET]": (RateSettings, frozenset()),
    "The tables [[budgets]]": (BudgetSettings, frozenset()),
    "The table [server]": (ServerSettings, frozenset()),
    "The table [observability]": (ObservabilitySettings, frozenset()),
    "Limits": (LimitsConfig, frozenset()),
}


@pytest.mark.parametrize("heading", CONFIGURATION)
def test_configuration_has_every_key_with_its_default(heading: str) -> None:
    model, elsewhere = CONFIGURATION[heading]
    rows = load_tables("configuration.md")[heading]
    names = [name for name in model.model_fields if name not in elsewhere]
    assert [(row[0], row[1]) for row in rows] == [(f"`{name}`", say_default(model, name)) for name in names]
    assert all(row[2] for row in rows)


def test_configuration_has_no_other_keys() -> None:
    others = {"Configuration", "Targets"}  # how values are written; input, output and cost
    assert set(load_tables("configuration.md")) == {*CONFIGURATION, *others}
    tables = {re.split(r"[^a-z]", heading.partition("[")[2].lstrip("["))[0] for heading in CONFIGURATION}
    assert set(Config.model_fields) - {"folder"} <= tables


def test_library_has_every_public_name() -> None:
    rows = load_tables("library.md")["Names"]
    assert sorted(row[0] for row in rows) == sorted(f"`{name}`" for name in gateway.__all__)


def list_public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def say_signature(function: Any) -> str:
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    signature = inspect.Signature([p for p in parameters if p.name not in ("self", "cls")])
    return str(signature).replace("'", '"')


def test_library_has_every_method_as_it_is_called() -> None:
    rows = [row[0].strip("`") for row in load_tables("library.md")["Methods"]]
    names = {row.partition("(")[0] for row in rows}
    assert names == list_public(gateway.AsyncGateway) - {"from_config", "from_settings"} | {"models"}
    assert list_public(gateway.Gateway) == names - {"aclose"} | {"from_config", "close"}
    for row in rows:
        name, paren, _ = row.partition("(")
        if paren:
            assert row == f"{name}{say_signature(getattr(gateway.AsyncGateway, name))}"
    makers = [row[0].strip("`") for row in load_tables("library.md")["Making a gateway"]]
    assert makers == [
        f"AsyncGateway.from_config{say_signature(gateway.AsyncGateway.from_config)}",
        f"AsyncGateway.from_settings{say_signature(gateway.AsyncGateway.from_settings)}",
        f"AsyncGateway{say_signature(gateway.AsyncGateway)}",
    ]


def test_library_names_errors_that_exist() -> None:
    tables = load_tables("library.md")
    for row in [*tables["Methods"], *tables["Making a gateway"]]:
        for name in filter(None, re.split(r", ", row[-1])):
            assert issubclass(getattr(errors, name), errors.GatewayError)


def split_words(cell: str) -> list[str]:
    return [] if cell == "nothing" else re.findall(r"`(\w+)`", cell)


def test_statuses_of_runs_are_those_of_the_code() -> None:
    rows = load_tables("statuses.md")["Status of a run, and of a job"]
    assert [row[:4] for row in rows if len(row) == 5] == [
        [str(s.value), f"`{s.name}`", f"`{s.phase}`", "yes" if s.is_final else "no"] for s in Status
    ]
    steps = {row[0].strip("`"): split_words(row[1]) for row in rows if len(row) == 2}
    assert steps == {s.name: [t.name for t in Status if t in RUN_NEXT[s]] for s in Status}


def test_statuses_of_attempts_are_those_of_the_code() -> None:
    rows = load_tables("statuses.md")["Status of an attempt"]
    assert [row[:2] for row in rows if len(row) == 3] == [
        [f"`{s}`", "yes" if s.is_final else "no"] for s in AttemptStatus
    ]
    steps = {row[0].strip("`"): split_words(row[1]) for row in rows if len(row) == 2}
    assert steps == {s.value: [t.value for t in AttemptStatus if t in ATTEMPT_NEXT[s]] for s in AttemptStatus}


def test_kinds_of_failure_and_of_cost_are_those_of_the_code() -> None:
    tables = load_tables("statuses.md")
    assert [row[0] for row in tables["Kinds of failure"]] == [f"`{kind}`" for kind in FailureKind]
    money = tables["What is known of the money"]
    assert [row[0] for row in money] == [f"`{outcome}`" for outcome in errors.CostOutcome]


def list_children(cls: type) -> dict[str, str]:
    children = [child for child in cls.__subclasses__() if child.__module__ == "gateway.errors"]
    return {child.__name__: cls.__name__ for child in children} | {
        name: parent for child in children for name, parent in list_children(child).items()
    }


def test_errors_are_drawn_as_they_are() -> None:
    (block,) = [
        b for b in parse_blocks("errors.md", (REFERENCE / "errors.md").read_text()) if b.language == "text"
    ]
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in block.text.splitlines():
        match = re.match(r"([│├└─ ]*)(\w+)", line)
        assert match
        level, name = len(match[1]) // 4, match[2]
        above = [*above[:level], name]
        if level:
            drawn[name] = above[level - 1]
    assert drawn == list_children(errors.GatewayError)
    assert above[0] == "GatewayError"


def test_backend_errors_have_their_three_facts() -> None:
    say = {True: "yes", False: "no", None: "nobody knows"}
    for name, *facts in load_tables("errors.md")["Backend errors"]:
        error = getattr(errors, name.strip("`"))
        assert facts == [say[error.landed], say[error.here], say[error.elsewhere]]
    assert len(load_tables("errors.md")["Backend errors"]) == 5


# -- command line --------------------------------------------------------------------------------------------


def describe_action(action: argparse.Action) -> str:
    """Return an option as the page writes it: `-q, --quiet`, `--input JSON`, `--on {any,submit}`."""
    words = ", ".join(action.option_strings)
    if action.nargs == 0:
        return words
    value = action.metavar or (
        action.dest.upper() if action.choices is None else f"{{{','.join(action.choices)}}}"
    )
    return f"{words} {value}".strip()


def list_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return what a command takes from a person; its own processes tell each other more."""
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return [action for action in shown if not isinstance(action, argparse._SubParsersAction)]


def list_options(parser: argparse.ArgumentParser) -> set[str]:
    common = {"--config", "--debug", "--help"}
    if parser.prog.endswith(" devnet up"):  # its --config is the file that it writes
        common -= {"--config"}
    actions = [action for action in list_actions(parser) if not common & set(action.option_strings)]
    return {describe_action(action) for action in actions}


def get_choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (sub,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(sub.choices)


def make_command(name: str) -> argparse.ArgumentParser:
    from gateway.cli.main import _make_parser

    return get_choices(_make_parser([name]))[name]


def read_options(*headings: str) -> set[str]:
    tables = load_tables("cli.md")
    return {row[0].strip("`") for heading in headings for row in tables.get(heading, [])}


COMMANDS = sorted(cli_main.COMMANDS)


def test_cli_has_every_command() -> None:
    page = (REFERENCE / "cli.md").read_text()
    assert sorted(re.findall(r"^## gateway (\w+)$", page, re.MULTILINE)) == COMMANDS


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "devnet"])
def test_cli_has_every_option(name: str) -> None:
    task = ["The task"] if name in ("run", "submit", "plan") else []
    assert read_options(f"gateway {name}", *task) == list_options(make_command(name))


def test_cli_has_every_order_of_the_devnet() -> None:
    orders = get_choices(make_command("devnet"))
    assert read_options("gateway devnet") == set(orders)
    for order in ("up", "fault"):
        assert read_options(f"gateway devnet {order}") == list_options(orders[order])
    others = [list_options(parser) for order, parser in orders.items() if order not in ("up", "fault")]
    assert read_options("Other orders of gateway devnet") == set().union(*others)
    kinds = {"": Fault, " of the chain": ChainFault, " of the content": ContentFault, " of the bots": Manner}
    for whose, kind in kinds.items():
        assert read_options(f"Faults{whose}") == {fault.value for fault in kind}


def test_cli_has_every_exit_status() -> None:
    from gateway.cli import exits

    told = {row[0] for row in load_tables("cli.md")["Command line"] if row[0].isdigit()}
    known = {str(value) for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert told == known
