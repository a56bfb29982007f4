"""A module, imported and idle."""

from __future__ import annotations

import importlib
import json
import sys

from resident import read_resident_mb  # type: ignore[import-not-found]  # beside this script

for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({"mb": read_resident_mb()}))
