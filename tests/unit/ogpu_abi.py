"""OGPU's ABI as it was measured: its signatures by contract, and hashes of some of them."""

from __future__ import annotations

import json
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "vectors"
SIGNATURES: dict[str, list[str]] = json.loads((VECTORS / "ogpu-abi-signatures.json").read_text())
SELECTORS = {
    "Controller": {"publishTask": "90d93b1d", "confirmResponse": "45fac6ec", "cancelTask": "76aafbdb"},
    "Nexus": {
        "publishSource": "4912f56d",
        "updateSource": "2ce65e26",
        "inactivateSource": "b3a85451",
        "register": "e97791e6",
        "attempt": "84895f34",
        "submitResponse": "2cbb753b",
    },
    "Task": {
        "getStatus": "4e69d560",
        "getAttemptCount": "f5653690",
        "getResponsesOf": "961dc61e",
        "responseOf": "e2c116da",
        "winningProvider": "ae7c03cd",
    },
    "Response": {"getResponseParams": "c3c1fa65", "confirmedFinal": "2300403b"},
    "Vault": {"deposit": "f340fa01", "frozenPayment": "818e0155"},
}
TOPICS = {
    "TaskPublished": "3bf5b04cf8ed447db6fda0a63a96369fd5dde6b366b6b480e784be44b26a6c22",
    "TaskStatusChanged": "004961faf5705b2d0656e64b56064817b7e3f00eefca17906d2d1600b20b73ec",
    "Attempted": "88c89788e8b61b93ed2a66e02b36e04d60275b78893674aa6134fad20874022d",
    "ResponseSubmitted": "f6a0b941311aeaa4102f64c379955a62cca24a7cb0cf54e6203ca75075588554",
    "ResponseStatusChanged": "0af3a4721b2eaed49a7bcd503459564e37cd4b6825d633c60f12ba26c2397f4c",
    "SourcePublished": "aed6dbe0b027f2c996fbb0c72ea0549a1b18ee6bd48549fbce971a7027503a57",
    "SourceStatusChanged": "d67fb784e94c7730f8d719043be4a40dcc6786aded1760f77aa46716193421a2",
    "SourceUpdated": "5f9bf4e8a1679156115361af50849b7807ce9be1880b79fc30ded34053274895",
    "Registered": "d336e6f66ca18b8522dabc6be4828055a35190f0152ae2b125ad0cb6c9a0c120",
}
