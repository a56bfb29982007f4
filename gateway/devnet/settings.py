"""The gateway.toml that leads to a devnet: written, and never over somebody else's."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.devnet.chain.deploy import Addresses
    from gateway.devnet.ogpu.contracts import Addresses as OgpuAddresses

KEY_FILE = ".gateway-devnet-key"
SIGNER_FILE = ".gateway-devnet-signer"
CLIENT_FILE = ".gateway-devnet-client"
_MARK = "# Written by `gateway devnet up`, which replaces it as long as nobody has changed it: "

_BACKENDS = """\
[gateway]
store = "sqlite:///runs.db"

[backends.node1]
adapter = "infernet"
url = "{node_url}"
"""

_CHAIN = """
[backends.node1.chain]
rpc_url = "{rpc_url}"
registry = "{registry}"
private_key = "file:{signer_file}"
"""

_OGPU = """
[backends.chain]
adapter = "ogpu"
contracts = {{ nexus = "{nexus}", controller = "{controller}", terminal = "{terminal}", vault = "{vault}" }}
chain_id = {chain_id}
rpc_url = "{rpc_url}"
private_key = "file:{client_file}"
pin_url = "{pin_url}"
content_gateways = ["{gateway_url}"]
content_cache = false # so that faults of the content are met each time

[rates.OGPU] # made up
price = "0.05 USD"
on = {today}
"""

_HOSTED = """
[backends.hosted]
adapter = "inferencesh"
url = "{api_url}"
api_key = "file:{key_file}"

# Where two backends say the same in different words, `input` and `output` reshape it (JSONPath), so that a
# model answers in one shape wherever it ran.
"""

_MODELS = """\
[models.sentiment]
description = "Sentiment of {text}, by VADER: label, neg, neu, pos, compound"
[models.sentiment.targets]
node1 = { containers = ["sentiment"], output = "$.output" }
hosted = { app = "demo/sentiment@1a2b", cost = "0.002 USD" }

[models.echo]
description = "Answers with its input"
[models.echo.targets]
node1 = { containers = ["echo"] }
hosted = { app = "demo/echo" }

[models.words]
description = "Says {text} word by word; with --stream as it comes"
[models.words.targets]
node1 = { containers = ["words"], output = "$.output" }
hosted = { app = "demo/words", output = "$.response" }

[models.sleep]
description = "Takes {seconds}"
[models.sleep.targets]
node1 = { containers = ["sleep"], output = "$.output" }
hosted = { app = "demo/sleep" }

[models.fail]
description = "Fails with {error}"
[models.fail.targets]
node1 = { containers = ["fail"] }
hosted = { app = "demo/fail", input = { message = "$.error" } }

[models.upper]
description = "Puts {text} into capitals; on the node only"
[models.upper.targets]
node1 = { containers = ["upper"], output = "$.output" }

[models.loud-sentiment]
description = "Two containers in a row: capitals, then sentiment"
[models.loud-sentiment.targets]
node1 = { containers = ["upper", "sentiment"], output = "$.output" }

[models.file-length]
description = "Counts the bytes of a file; try --file file=PATH; on the hosted API only"
[models.file-length.targets]
hosted = { app = "demo/file-length" }
"""

_ON_CHAIN = """
[models.sentiment-on-chain]
description = "The same as a delegated subscription: the node delivers on the local chain"
[models.sentiment-on-chain.targets.node1]
containers = ["sentiment"]
output = "$.output"
delegated = {{ owner = "{consumer}" }}
"""

_ANYWHERE = """
[models.sentiment-anywhere]
description = "The same at the node, as a task on OGPU, or at the hosted API"
[models.sentiment-anywhere.targets]
node1 = {{ containers = ["sentiment"], output = "$.output" }}
chain = {{ source = "{source}", function = "predict", payment = "0.01 OGPU" }}
hosted = {{ app = "demo/sentiment@1a2b", cost = "0.002 USD" }}
"""

_ON_OGPU = {"sentiment": "predict", "echo": "echo", "sleep": "sleep", "fail": "fail", "upper": "upper"}
"""Models that the chain's sources run too: the function of each."""


@dataclass(frozen=True, slots=True)
class OgpuPlace:
    """OGPU on a local chain."""

    rpc_url: str
    chain_id: int
    contracts: OgpuAddresses
    source: str
    pin_url: str
    gateway_url: str
    client_key: str


@dataclass(frozen=True, slots=True)
class ChainPlace:
    """A local chain with the contracts on it."""

    rpc_url: str
    addresses: Addresses
    signer_key: str


def make_config_text(
    node_url: str, api_url: str, chain: ChainPlace | None = None, ogpu: OgpuPlace | None = None
) -> str:
    """Return a gateway.toml for a node and a hosted API, whose first line proves that nobody changed it."""
    parts = [_BACKENDS.format(node_url=node_url)]
    if chain is not None:
        registry = chain.addresses.registry
        parts.append(_CHAIN.format(rpc_url=chain.rpc_url, registry=registry, signer_file=SIGNER_FILE))
    if ogpu is not None:
        parts.append(_make_ogpu_text(ogpu))
    parts += [_HOSTED.format(api_url=api_url, key_file=KEY_FILE), _MODELS]
    if chain is not None:
        parts.append(_ON_CHAIN.format(consumer=chain.addresses.consumer))
    if ogpu is not None:
        parts.append(_make_ogpu_models(ogpu))
    text = "".join(parts)
    return f"{_MARK}{_digest(text)}\n{text}"


def _make_ogpu_text(place: OgpuPlace) -> str:
    contracts = place.contracts
    return _OGPU.format(
        nexus=contracts.nexus,
        controller=contracts.controller,
        terminal=contracts.terminal,
        vault=contracts.vault,
        chain_id=place.chain_id,
        rpc_url=place.rpc_url,
        client_file=CLIENT_FILE,
        pin_url=place.pin_url,
        gateway_url=place.gateway_url,
        today=datetime.now(UTC).date().isoformat(),
    )


def _make_ogpu_models(place: OgpuPlace) -> str:
    """Return the models that run on OGPU: of their own, so that nothing is paid on chain unasked."""
    return _ANYWHERE.format(source=place.source) + "".join(
        f"""
[models.{model}-on-ogpu]
description = "The same as a task on OGPU"
[models.{model}-on-ogpu.targets]
chain = {{ source = "{place.source}", function = "{function}", payment = "0.01 OGPU" }}
"""
        for model, function in _ON_OGPU.items()
    )


def check_replaceable(path: Path) -> None:
    """Raise ConfigError if there is a file that the devnet did not write, or that was changed since."""
    if not path.exists():
        return
    mark, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    if mark != f"{_MARK}{_digest(text)}":
        raise ConfigError(
            f"{path} is there already and is not (or no longer) as `gateway devnet up` wrote it;"
            " --force replaces it, --folder or --config writes elsewhere"
        )


def write_secret(path: Path, secret: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
