"""schemathesis on the native API, in a virtual environment of its own; `start.py` installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).parents[1] / "server"
SCHEMATHESIS = Path(sys.prefix) / "sdk" / "schemathesis" / "bin" / "st"


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    assert SCHEMATHESIS.exists(), "schemathesis is not installed: run `python3 start.py setup`"
    server = subprocess.Popen(
        [sys.executable, str(SERVER / "fake_server.py"), f"sqlite:///{tmp_path / 'runs.db'}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        words = ["--config-file", str(SERVER / "schemathesis.toml"), "run", f"{url}/openapi.json"]
        done = subprocess.run(
            [str(SCHEMATHESIS), *words, "--max-examples", "25", "--no-color"],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            cwd=tmp_path,
        )
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: " in done.stdout
    assert server.returncode == 0
