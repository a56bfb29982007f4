"""What an installation without extras brings, and what is loaded of it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MOST_PACKAGES = 12
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def find_all(wanted: Iterable[str], extras: frozenset[str] = frozenset()) -> dict[str, frozenset[str]]:
    """Return what these requirements bring with all that they require, each with its extras."""
    found: dict[str, frozenset[str]] = {}
    for text in wanted:
        one = Requirement(text)
        if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        name = canonicalize_name(one.name)
        found[name] = frozenset(one.extras)
        found |= find_all(requires(name) or (), frozenset(one.extras))
    return found


def test_the_core_is_small() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    found = find_all(project["dependencies"])
    assert {"httpx2", "httpcore2", "pydantic", "pydantic-core"} <= set(found)
    assert len(found) <= MOST_PACKAGES, sorted(found)


def test_an_extra_is_counted_where_it_is_asked_for() -> None:
    assert "h11" in find_all(["httpx2"])
    assert "h2" not in find_all(["httpx2"])


def test_a_node_that_gets_jobs_only_loads_nothing_of_the_chain() -> None:
    code = (
        "import sys; from gateway_infernet import InfernetAdapter as A; A('n', A.config_type(url='http://n'));"
        " sys.exit(' '.join(m for m in sys.modules if 'deleg' in m or m.startswith('gateway.chain')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
