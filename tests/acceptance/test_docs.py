"""The documentation is true: its examples run and say what it shows, its tables are those of the code."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from doc_examples import (
    RUN,
    Block,
    Reader,
    compare,
    find_links,
    make_anchors,
    make_environment,
    parse_blocks,
    parse_commands,
)
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
    RateSettings,
)
from gateway.devnet.chain.node_tools import find_anvil
from gateway.devnet.faults import Fault
from gateway.lifecycle import ATTEMPT_NEXT, RUN_NEXT, AttemptStatus, Status
from gateway.task import FailureKind
from gateway_inferencesh import InferenceshConfig, InferenceshTarget
from gateway_infernet import InfernetConfig, InfernetTarget
from gateway_infernet.config import ChainConfig, DelegatedTarget

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
RUN_ELSEWHERE = {"docs/adapters.md"}  # its files are installed and run by test_third_party_adapter.py


def name_page(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def load_blocks(path: Path) -> list[Block]:
    return parse_blocks(name_page(path), path.read_text(encoding="utf-8"))


WITH_EXAMPLES = [
    page
    for page in PAGES
    if name_page(page) not in RUN_ELSEWHERE and any(block.language in RUN for block in load_blocks(page))
]


# -- examples ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a devnet that runs, with its chain."""
    folder = tmp_path_factory.mktemp("devnet")
    environment = make_environment(folder, GATEWAY_ANVIL=str(find_anvil()))
    said = folder / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "devnet", "up", "--chain"],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + 60
    while "Ctrl-C" not in said.read_text():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < end, said.read_text()
        time.sleep(0.05)
    yield folder
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0, said.read_text()


@pytest.fixture
def reader(devnet: Path, tmp_path: Path) -> Iterator[Reader]:
    """A reader in a folder of its own, with the devnet's configuration and a store of its own."""
    for path in devnet.iterdir():
        if path.name == "gateway.toml" or path.name.startswith(".gateway-devnet"):
            shutil.copy(path, tmp_path / path.name)
    config = tomllib.loads((devnet / "gateway.toml").read_text())
    for table in config["backends"].values():
        for name, value in table.items():
            if isinstance(value, str) and value.startswith("file:"):
                table[name] = "a secret"
        table.pop("chain", None)
    environment = make_environment(tmp_path, GATEWAY_ANVIL=str(find_anvil()))
    reader = Reader(tmp_path, environment, config["backends"])
    yield reader
    reader.close()
    subprocess.run(
        [sys.executable, "-m", "gateway", "devnet", "clear"], cwd=devnet, env=environment, check=True
    )


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_page)
def test_examples_run_and_print_what_is_shown(page: Path, reader: Reader) -> None:
    blocks = load_blocks(page)
    if any(block.mark == "keeps running" for block in blocks):  # the page starts a devnet of its own
        for path in reader.folder.glob("*gateway*"):
            path.unlink()
    for block in blocks:
        reader.follow(block)


def test_what_is_not_run_has_a_reason() -> None:
    skipped = [
        block
        for page in WITH_EXAMPLES
        for block in load_blocks(page)
        if block.language in RUN and block.mark == "not run"
    ]
    assert all(len(block.word.split()) >= 4 for block in skipped), skipped
    assert len(skipped) <= 6, [str(block) for block in skipped]


def test_readme_and_guides_have_examples() -> None:
    guides = ["README.md", "docs/quickstart.md", "docs/operations.md", "docs/routing.md"]
    backends = ["docs/backends/infernet.md", "docs/backends/inferencesh.md"]
    assert {*guides, *backends} <= {name_page(page) for page in WITH_EXAMPLES}


def test_the_runner_sees_what_is_wrong(tmp_path: Path) -> None:
    page = parse_blocks(
        "page", "```python\nprint(1)\n```\n```text\n2\n```\n\n```sh\n$ false\n```\n```sh\n$ echo a\nb\n```\n"
    )
    reader = Reader(tmp_path, make_environment(tmp_path), {})
    for block, why in zip(page, ("prints something else", "ended 1", "says something else"), strict=True):
        with pytest.raises(AssertionError, match=why):
            reader.follow(block)
    reader.close()


def test_commands_and_wildcards_are_read() -> None:
    block = Block("page", 1, "sh", "$ one \\\n  two\nsaid ...\n$ echo $?\n0\n")
    assert [(c.line, c.shown) for c in parse_commands(block)] == [
        ("one two", "said ...\n"),
        ("echo $?", "0\n"),
    ]
    assert compare("run_...  5\n", "run_ab 5") is None
    assert compare("run_... 5", "run_ab 6") is not None


# -- links and words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_lead_somewhere(page: Path) -> None:
    for link in find_links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        assert target.exists(), f"{name_page(page)} links to {link}"
        if anchor:
            assert anchor in make_anchors(target.read_text(encoding="utf-8")), f"{name_page(page)}: {link}"


def test_every_page_can_be_found() -> None:
    seen, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for link in find_links(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if not re.match(r"[a-z]+://", link) and target.is_file():
                todo.append(target)
    assert {name_page(page) for page in PAGES} == {name_page(page) for page in seen}


FORBIDDEN = (
    r"/(?:work|opt|root|tmp|srv)/",
    r"/home/\w",
    r"(?:files\.pythonhosted|pypi|registry\.npmjs|deb\.debian|archive\.ubuntu)\.\w",
    r"index-url",
    r"\bissue #?\d|\bagents?\b|\bsub-?agent|\bworkplace\b",
    r"\b(?:provider|driver)s?\b",  # the words are adapter and backend
)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "LICENSE"], ids=name_page)
def test_no_word_that_does_not_belong_here(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [match[0] for pattern in FORBIDDEN for match in re.finditer(pattern, text, re.IGNORECASE)]
    assert found == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tables = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        project["dependency-groups"]["dev"],
    ]
    names = {re.split(r"[\[>=<~! ]", line)[0] for table in tables for line in table} - {"inference-gateway"}
    records = "\n".join(path.read_text() for path in (DOCS / "decisions").glob("*.md"))
    assert sorted(name for name in names if f"`{name}`" not in records) == []


def test_decisions_are_numbered_and_listed() -> None:
    records = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "index.md")
    listed = (DOCS / "decisions" / "index.md").read_text()
    for number, path in enumerate(records, start=1):
        title = path.read_text().splitlines()[0]
        assert path.name.startswith(f"{number:04}-")
        assert title.startswith(f"# {number}. ")
        assert f"{number}. [{title.split('. ', 1)[1]}]({path.name})" in listed


# -- reference -----------------------------------------------------------------------------------------------


def load_tables(name: str) -> dict[str, list[list[str]]]:
    """Return the rows of a page's tables (without their heads) by heading; several tables are one."""
    tables: dict[str, list[list[str]]] = {}
    heading, is_head = "", True
    for line in (DOCS / "reference" / name).read_text(encoding="utf-8").splitlines():
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
        return f'`"{default.days}d"`'
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
    "The table [models.NAME]": (ModelSettings, LIMITS),
    "Words of an Infernet target": (InfernetTarget, frozenset()),
    "Words of `delegated`": (DelegatedTarget, frozenset()),
    "Words of an inference.sh target": (InferenceshTarget, frozenset()),
    "The table [rates.ASSET]": (RateSettings, frozenset()),
    "The tables [[budgets]]": (BudgetSettings, frozenset()),
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
    assert names == list_public(gateway.AsyncGateway) - {"from_config"} | {"models"}
    assert list_public(gateway.Gateway) == names - {"aclose"} | {"from_config", "close"}
    for row in rows:
        name, paren, _ = row.partition("(")
        if paren:
            assert row == f"{name}{say_signature(getattr(gateway.AsyncGateway, name))}"
    makers = [row[0].strip("`") for row in load_tables("library.md")["Making a gateway"]]
    assert makers == [
        f"AsyncGateway.from_config{say_signature(gateway.AsyncGateway.from_config)}",
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
    (block,) = [b for b in load_blocks(DOCS / "reference" / "errors.md") if b.language == "text"]
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
    return [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]


def list_options(parser: argparse.ArgumentParser) -> set[str]:
    common = {"--config", "--debug", "--help"} if not parser.prog.endswith(" devnet up") else {"--help"}
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


COMMANDS = sorted(cli_main._COMMANDS)


def test_cli_has_every_command() -> None:
    page = (DOCS / "reference" / "cli.md").read_text()
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
    assert read_options("Faults") == {fault.value for fault in Fault}


def test_cli_has_every_exit_status() -> None:
    from gateway.cli import exits

    told = {row[0] for row in load_tables("cli.md")["Command line"] if row[0].isdigit()}
    known = {str(value) for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert told == known | {"130"}
