"""The budgets of the design: what grows beyond them is cut, not excused."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("gateway", "adapters", "tests", "docs/examples")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts and "build" not in path.parts
)
LONGEST_FILE, LONGEST_FUNCTION, MOST_METHODS = 400, 50, 15
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "manager"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def count_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its docstring: words for readers are no burden."""
    first = node.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def is_dunder(text: str) -> bool:
    return text.startswith("__") and text.endswith("__")


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file_keeps_its_budget(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines < LONGEST_FILE, f"{name(path)} has {lines} lines"
    assert path.stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_and_classes_keep_their_budgets(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert count_lines(node) < LONGEST_FUNCTION, f"{name(path)}: {node.name}"
        if isinstance(node, ast.ClassDef) and not name(path).startswith("tests/"):
            methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
            own = [method for method in methods if not is_dunder(method)]
            assert len(own) < MOST_METHODS, f"{name(path)}: {node.name} has {len(own)} methods"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name(path)}:{node.lineno} catches everything"
            only_pass = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            broad = ast.unparse(node.type) in {"Exception", "BaseException"}
            assert not (only_pass and broad), f"{name(path)}:{node.lineno} swallows every error"


@pytest.mark.parametrize("path", [p for p in SOURCES if name(p).startswith("gateway/")], ids=name)
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    if name(path) != "gateway/config.py":
        assert not re.search(r"os\.environ|os\.getenv", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [p for p in SOURCES if name(p).startswith("gateway/")], ids=name)
def test_the_gateway_names_no_backend(path: Path) -> None:
    if not name(path).startswith(("gateway/devnet/", "gateway/cli/", "gateway/server/dialects/")):
        code = "\n".join(ast.unparse(node) for node in strip_docstrings(parse(path)).body)
        assert not re.search(
            r"infernet|inferencesh|ogpu", code.lower().replace('"ogpu": 18', "").replace("'ogpu': 18", "")
        )


def strip_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


def test_importing_the_gateway_is_light() -> None:
    code = (
        "import sys, gateway; heavy = [m for m in ('web3', 'eth_account', 'aiohttp', 'starlette', 'pydantic',"
        " 'httpx', 'httpx2', 'tenacity', 'sqlite3', 'gateway.cli', 'gateway.devnet') if m in sys.modules];"
        " sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names_are_sorted_and_there() -> None:
    import gateway

    assert gateway.__all__ == sorted(gateway.__all__)
    assert all(hasattr(gateway, public) for public in gateway.__all__)


def test_every_status_changes_through_the_tables() -> None:
    """No module but the journal calls advance_*, so that no other place can change a status."""
    users = [
        name(path)
        for path in SOURCES
        if name(path).startswith(("gateway/", "adapters/"))
        and re.search(r"\badvance_(run|attempt)\(", path.read_text(encoding="utf-8"))
    ]
    assert users == ["gateway/engine/journal.py", "gateway/lifecycle.py"]
