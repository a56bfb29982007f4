"""docs/adapters.md keeps its word: its example is installed as a stranger's package, found, and used."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adapters.md"
EXAMPLE = ROOT / "docs" / "examples" / "third_party_adapter"
BLOCK = re.compile(
    r"(?:^`(?P<path>[^`\n]+)`\n\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)

RUN_IT = """
import asyncio, json
from gateway import AsyncGateway, Task

async def main():
    async with AsyncGateway.from_config("gateway.toml") as gateway:
        run = await gateway.run(Task(model="shout", input={"text": "hello"}), backend="auto", timeout=60)
        plain = {"output": run.output, "backend": run.attempt.backend, "status": run.status.name}
        print(json.dumps(plain))

asyncio.run(main())
"""

FIND_IT = """
import json
from gateway.registry import find_plugins, load_plugin

plugins = [load_plugin(point) for point in find_plugins().values()]
print(json.dumps({one.name: [one.adapter and one.adapter.__name__, one.error] for one in plugins}))
"""


def read_blocks() -> list[tuple[str | None, str, str]]:
    return [(m["path"], m["language"], m["code"]) for m in BLOCK.finditer(PAGE.read_text())]


def install_by_hand(target: Path) -> None:
    """Do what an installer does: copy the package and write its metadata. Needs no build tool."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "gateway_queue", target / "gateway_queue", ignore=lambda *_: {"__pycache__"})
    write_metadata(target, project["name"], project["version"], project["entry-points"]["gateway.adapters"])


def write_metadata(target: Path, name: str, version: str, points: dict[str, str]) -> None:
    info = target / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = "".join(f"{point} = {value}\n" for point, value in points.items())
    (info / "entry_points.txt").write_text(f"[gateway.adapters]\n{lines}")


def run_python(*arguments: str, beside: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(beside), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def read_answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "site"
    install_by_hand(target)
    return target


@pytest.fixture
def service() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("queue_service", EXAMPLE / "tests" / "queue_service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    service = module.QueueService()
    service.token = module.TOKEN
    yield service
    service.stop()


def write_config(folder: Path, url: str) -> None:
    (text,) = [code for path, _, code in read_blocks() if path == "gateway.toml"]
    assert "https://queue.example" in text
    text = text.replace("https://queue.example", url)
    (folder / "gateway.toml").write_text(f'[gateway]\nstore = "memory:"\n\n{text}')


def test_it_is_found_and_runs_a_task(target: Path, service: Any, tmp_path: Path) -> None:
    write_config(tmp_path, service.url)
    done = run_python("-c", RUN_IT, beside=target, cwd=tmp_path, QUEUE_TOKEN=service.token)
    assert read_answer(done) == {"output": {"text": "HELLO"}, "backend": "my-queue", "status": "COMPLETED"}
    assert len(service.accepted) == 1


def test_a_broken_neighbour_is_a_report_and_no_obstacle(target: Path, service: Any, tmp_path: Path) -> None:
    write_metadata(target, "gateway-broken", "1.0", {"broken": "gateway_no_such_module:Adapter"})
    found = read_answer(run_python("-c", FIND_IT, beside=target, cwd=tmp_path))
    assert found["queue"] == ["QueueAdapter", None]
    assert found["broken"][0] is None
    assert "gateway_no_such_module" in found["broken"][1]
    write_config(tmp_path, service.url)
    done = run_python("-c", RUN_IT, beside=target, cwd=tmp_path, QUEUE_TOKEN=service.token)
    assert read_answer(done)["status"] == "COMPLETED"


def test_without_the_package_the_error_names_the_adapter(service: Any, tmp_path: Path) -> None:
    write_config(tmp_path, service.url)
    done = run_python("-c", RUN_IT, beside=tmp_path / "nothing", cwd=tmp_path, QUEUE_TOKEN=service.token)
    assert done.returncode != 0
    assert "there is no adapter 'queue'" in done.stderr


def test_an_installer_agrees(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="70.1")  # the first that makes wheels on its own
    pytest.importorskip("pip")
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source)
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir"]
    done = run_python(
        "-m", "pip", "install", *words, "--target", "site", str(source), beside=tmp_path, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = read_answer(run_python("-c", FIND_IT, beside=tmp_path / "site", cwd=tmp_path))
    assert found["queue"] == ["QueueAdapter", None]


def test_its_own_tests_pass(target: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=lambda *_: {"__pycache__"})
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    done = run_python("-m", "pytest", "-p", "no:cacheprovider", "-q", beside=target, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 30


def test_the_page_shows_the_files_as_they_are() -> None:
    sources = [path for path in EXAMPLE.rglob("*.*") if path.suffix in {".py", ".toml"}]
    files = {str(path.relative_to(EXAMPLE)): path.read_text() for path in sources}
    shown = set()
    for path, language, code in read_blocks():
        if path in files:
            assert code == files[path], f"{path} differs from what the page shows"
            shown.add(path)
        elif language in {"python", "toml"} and path != "gateway.toml":
            assert any(code in text for text in files.values()), f"this is in no file of the example:\n{code}"
    modules = {name for name in files if name.startswith("gateway_queue") and name.endswith(".py")}
    assert modules | {"pyproject.toml", "tests/test_queue_adapter.py"} <= shown


def test_the_page_has_six_steps_and_its_links_lead_somewhere() -> None:
    text = PAGE.read_text()
    assert re.findall(r"^## Step (\d)", text, re.MULTILINE) == list("123456")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / link).exists(), link


def test_the_page_s_session_works() -> None:
    import doctest

    (session,) = [code for _, language, code in read_blocks() if language == "pycon"]
    case = doctest.DocTestParser().get_doctest(session, {}, "docs/adapters.md", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(case).failed == 0
