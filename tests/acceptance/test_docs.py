"""The documentation is true: its examples run and say what it shows, its tables are those of the code."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

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

from gateway.devnet.chain.node_tools import find_anvil

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
            [sys.executable, "-m", "gateway", "devnet", "up"],
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
    r"\bissue #?\d|(?<!set-)\bagents?\b|\bsub-?agent|\bworkplace\b",
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
    listed = [
        f"- {number}. [{title}]({path.name})" for path in records for number, title in [read_title(path)]
    ]
    lines = (DOCS / "decisions" / "index.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("- ")] == listed
    assert len({read_title(path)[0] for path in records}) == len(records)


def read_title(path: Path) -> tuple[int, str]:
    match = re.fullmatch(r"# (\d+)\. (.+)", path.read_text(encoding="utf-8").splitlines()[0])
    assert match
    assert path.name.startswith(f"{int(match[1]):04}-")
    return int(match[1]), match[2]
