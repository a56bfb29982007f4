"""Peers in virtual environments of their own, and scripts that are run in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".venv" / "peers"
_LIMIT_SECONDS = 900.0


class NotInstalledError(Exception):
    """A peer's environment could not be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed together.

    Attributes:
        name: of its folder.
        packages: requirements, pinned.
        bare: requirements that are installed without what they ask for.
    """

    name: str
    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()

    def install(self, folder: Path = PLACE) -> str:
        """Make it below a folder unless it is there, and return its Python: of our own's build.

        Raises NotInstalledError.
        """
        place = folder / self.name
        python = str(place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        mark, wanted = place / "installed", repr((sys.version, self.packages, self.bare))
        if mark.is_file() and mark.read_text() == wanted:
            return python
        print(f"installing {', '.join(self.bare + self.packages)}", file=sys.stderr, flush=True)
        venv.create(place, clear=True, with_pip=True, symlinks=os.name != "nt")
        for words in (("--no-deps", *self.bare), self.packages):
            if words != ("--no-deps",):
                self._pip(python, words)
        mark.write_text(wanted)
        return python

    def _pip(self, python: str, words: tuple[str, ...]) -> None:
        call = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
        done = subprocess.run(call, capture_output=True, text=True, check=False)  # noqa: S603  our own words
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise NotInstalledError(f"{self.name} can't be installed ({last})")


HTTPX = Environment("httpx", ("httpx==0.28.1",))
LITELLM = Environment("litellm", ("litellm==1.106.2",))
OPENAI = Environment("openai", ("openai==3.51.0",))
FAL = Environment("fal_client", ("fal-client==1.0.3",))
INFERENCESH = Environment("inferencesh", ("inferencesh==0.36.0",))
OGPU = Environment("ogpu", ("ogpu==0.2.3",))
INFERNET_CLIENT = Environment(
    "infernet_client",
    (
        "aiohttp",
        "click",
        "huggingface-hub",
        "pydantic",
        "python-dotenv",
        "quart",
        "ritual-arweave",
        "web3<7",
    ),
    bare=("infernet-client==1.4.0", "infernet-ml==2.0.0"),  # it asks for a build that was never published
)


def make_variables(python: str) -> dict[str, str]:
    """Return the environment variables for a process with that Python.

    Nothing goes further than loopback, and bytecode is written: an installed package has it.
    """
    paths = [str(ROOT), str(ROOT / "adapters")] if python == sys.executable else []
    own = {
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(paths),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it fetches one from the internet first
    }
    unwanted = {"http_proxy", "https_proxy", "all_proxy", "pythondontwritebytecode"}
    return {name: value for name, value in os.environ.items() if name.lower() not in unwanted} | own


def run_script(python: str, script: Path, *words: object) -> dict[str, Any]:
    """Run a script and return the JSON of its last line. Raises RuntimeError if it breaks."""
    done = subprocess.run(  # noqa: S603  our own words
        [python, str(script), *map(str, words)],
        capture_output=True,
        text=True,
        env=make_variables(python),
        timeout=_LIMIT_SECONDS,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{script.name} broke: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found
