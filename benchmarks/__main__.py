"""Run all benchmarks, one after the other: `python -m benchmarks`."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import benchmarks
from benchmarks.environments import ROOT


def main() -> int:
    """Run each package here that is a command; 1 if any of them missed a floor."""
    failed: list[str] = []
    for module in sorted(one.name for one in pkgutil.iter_modules(benchmarks.__path__) if one.ispkg):
        print(f"== {module}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{module}"], cwd=ROOT, check=False).returncode:  # noqa: S603  our own words
            failed.append(module)
    print(f"missed floors: {', '.join(failed)}" if failed else "all floors were reached")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
