"""Compile the contracts of the local chain with npm's solc 0.8.28, each folder into its compiled.json.

Run it after a change of a contract: `python -m gateway.devnet.chain.compile_contracts`. The compiler is found
where `find_solc` says, and `npm install --prefix .ci/node solc@0.8.28` puts it there.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gateway.devnet.chain.node_tools import SOLC_PACKAGE, find_solc
from gateway.types import JSON

CONTRACTS = Path(__file__).with_name("contracts")
OGPU_CONTRACTS = Path(__file__).parents[1] / "ogpu" / "contracts"
COMPILED = "compiled.json"
_SETTINGS: Mapping[str, JSON] = {
    "evmVersion": "paris",
    "metadata": {"bytecodeHash": "none"},  # the same source gives the same bytes, wherever it lies
    "optimizer": {"enabled": True, "runs": 200},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
    "viaIR": True,
}


def load_sources(folder: Path = CONTRACTS) -> dict[str, str]:
    """Read the contracts of a folder: file name to source."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sol"))}


def encode_fingerprint(sources: Mapping[str, str]) -> str:
    """Return a hash over sources and settings; compiled.json carries the one that it was made from."""
    text = json.dumps([dict(sources), dict(_SETTINGS), SOLC_PACKAGE], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def compile_contracts(solc: Path, folder: Path = CONTRACTS) -> dict[str, JSON]:
    """Compile all contracts of a folder with the given solc.js; return what belongs into compiled.json.

    Raises:
        RuntimeError: with the compiler's own words, warnings included.
    """
    sources = load_sources(folder)
    order = {
        "language": "Solidity",
        "settings": dict(_SETTINGS),
        "sources": {name: {"content": text} for name, text in sources.items()},
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # solc.js ends before a pipe is read empty
        subprocess.run(  # noqa: S603  the compiler that find_solc found, without a shell
            ["node", str(solc), "--standard-json"],  # noqa: S607  node is wherever PATH has it
            input=json.dumps(order),
            stdout=said,
            text=True,
            check=True,
            timeout=300,
        )
        said.seek(0)
        text = said.read()
    answer = json.loads(text[text.index("{") :])  # a line about SMT solvers may come first
    if answer.get("errors"):
        raise RuntimeError("\n".join(error["formattedMessage"] for error in answer["errors"]))
    contracts = {
        name: {"abi": contract["abi"], "bytecode": "0x" + contract["evm"]["bytecode"]["object"]}
        for file in answer["contracts"].values()
        for name, contract in sorted(file.items())
        if contract["evm"]["bytecode"]["object"]
    }
    return {"compiler": SOLC_PACKAGE, "contracts": contracts, "fingerprint": encode_fingerprint(sources)}


def load_compiled(folder: Path = CONTRACTS) -> dict[str, JSON]:
    """Read compiled.json: {"compiler", "contracts": {name: {"abi", "bytecode"}}, "fingerprint"}."""
    compiled: dict[str, JSON] = json.loads((folder / COMPILED).read_text(encoding="utf-8"))
    return compiled


def main() -> None:
    """Compile every folder and write its compiled.json."""
    for folder in (CONTRACTS, OGPU_CONTRACTS):
        compiled = compile_contracts(find_solc(), folder)
        path = folder / COMPILED
        path.write_text(json.dumps(compiled, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path}: {', '.join(compiled['contracts'])}\n")


if __name__ == "__main__":
    main()
