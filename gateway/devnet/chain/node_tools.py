"""Where the npm packages are that the local chain is made of: anvil (an EVM) and solc (a compiler)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.errors import ConfigError

ANVIL_PACKAGE = "@foundry-rs/anvil"
SOLC_PACKAGE = "solc@0.8.28"
_FOLDERS = ("node_modules", ".ci/node/node_modules")


class ToolMissing(ConfigError):
    """A program that the local chain needs is not installed; the message says how to install it."""


def find_anvil(env: Mapping[str, str] | None = None) -> Path:
    """Find the anvil program.

    Looked at, in this order: the file that GATEWAY_ANVIL in `env` names, `node_modules` and
    `.ci/node/node_modules` of the working folder and of the source tree, PATH.

    Raises:
        ToolMissing: it is nowhere, or GATEWAY_ANVIL names no file.
    """
    named = (env or {}).get("GATEWAY_ANVIL")
    if named:
        if not Path(named).is_file():
            raise ToolMissing(f"GATEWAY_ANVIL names {named}, which is not a file")
        return Path(named)
    for folder in _list_folders():
        # The program itself: the script in .bin only starts it, and would leave it alone when killed.
        for program in sorted(folder.glob("@foundry-rs/anvil-*/bin/anvil*")):
            return program
    on_path = shutil.which("anvil")
    if on_path:
        return Path(on_path)
    raise ToolMissing(
        f"the local chain needs anvil: npm install {ANVIL_PACKAGE} (or have the program on your PATH)"
    )


def find_solc(env: Mapping[str, str] | None = None) -> Path:
    """Find solc.js in GATEWAY_SOLC or in the folders where anvil is looked for. Raises ToolMissing."""
    named = (env or {}).get("GATEWAY_SOLC")
    candidates = [Path(named)] if named else [folder / "solc" / "solc.js" for folder in _list_folders()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ToolMissing(f"compiling the contracts needs solc: npm install {SOLC_PACKAGE}")


def _list_folders() -> Iterator[Path]:
    for root in dict.fromkeys((Path.cwd(), Path(__file__).resolve().parents[3])):
        for folder in _FOLDERS:
            yield root / folder
