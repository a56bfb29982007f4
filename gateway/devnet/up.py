"""`gateway devnet up`: both stand-ins, their control page and a configuration, until somebody ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.devnet.control import STATE_FILE, Control, ask, load_state, write_state
from gateway.devnet.network import Network
from gateway.devnet.settings import (
    CLIENT_FILE,
    KEY_FILE,
    SIGNER_FILE,
    ChainPlace,
    OgpuPlace,
    check_replaceable,
    make_config_text,
    write_secret,
)
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.devnet.chain.delegate import CoordinatorSide

API_KEY = "inf_devnet"
NODE = "node1"
HOSTED = "hosted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `gateway devnet up` can be told.

    Attributes:
        config: the file to write; its folder also gets the state file and the key.
        node_port: of the Infernet node; 0 picks a free one, as for the others.
        api_port: of the inference.sh API.
        control_port: of the control page.
        rate_limit: requests per minute and endpoint that the node allows; None for no limit. Real nodes
            allow 60 unless configured otherwise.
        chain: also run local chains: one for the node's chain side, and one with OGPU on it.
        force: replace a configuration that the devnet did not write.
    """

    config: Path
    node_port: int = 0
    api_port: int = 0
    control_port: int = 0
    rate_limit: int | None = None
    chain: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Devnet:
    """A devnet that runs.

    Attributes:
        network: its stand-ins.
        config_text: a gateway.toml for it; the files that it names are still to be written.
        secrets: those files, name -> content.
    """

    network: Network
    config_text: str
    secrets: dict[str, str]

    def write_config(self, path: Path) -> None:
        """Write the configuration and the files that it names beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, secret in self.secrets.items():
            write_secret(path.parent / name, secret)
        path.write_text(self.config_text, encoding="utf-8")


@asynccontextmanager
async def open_devnet(
    *, node_port: int = 0, api_port: int = 0, rate_limit: int | None = None, chain: bool = False
) -> AsyncIterator[Devnet]:
    """Run a devnet in this event loop for as long as the block lasts.

    Raises:
        ConfigError: aiohttp or the model is not installed, a port is taken, or there is no chain to be had.
    """
    _require_extra()
    from gateway.devnet.inferencesh import InferenceshApi
    from gateway.devnet.infernet import InfernetNode
    from gateway.devnet.model import analyze

    async with AsyncExitStack() as stack:
        place, side = (await _start_chain(stack)) if chain else (None, None)
        ogpu = (await _start_ogpu(stack)) if chain else None
        limit = None if rate_limit is None else (rate_limit, 60.0)
        node = InfernetNode(NODE, port=node_port, rate_limit=limit, chain=side)
        hosted = InferenceshApi(HOSTED, port=api_port, api_key=API_KEY)
        network = Network([node, hosted])
        stack.push_async_callback(network.stop)
        await asyncio.to_thread(analyze, "warm")  # the lexicon is read here, not in the first job
        try:
            await network.start()
        except OSError as error:
            raise ConfigError(f"the devnet can't listen: {error.strerror or error}") from error
        secrets = {
            KEY_FILE: API_KEY,
            **({SIGNER_FILE: place.signer_key} if place else {}),
            **({CLIENT_FILE: ogpu.client_key} if ogpu else {}),
        }
        yield Devnet(network, make_config_text(node.url, hosted.url, place, ogpu), secrets)


async def serve(options: Options, say: Callable[[str], None]) -> None:
    """Run a devnet until SIGINT, SIGTERM or `gateway devnet down`; `say` gets the lines for the terminal.

    Raises:
        ConfigError: one runs there already, somebody else's configuration is in the way, a port is taken.
    """
    path = options.config.absolute()
    await _refuse_second(path.parent)
    if not options.force:
        check_replaceable(path)
    async with open_devnet(
        node_port=options.node_port,
        api_port=options.api_port,
        rate_limit=options.rate_limit,
        chain=options.chain,
    ) as devnet:
        devnet.write_config(path)
        control = Control(devnet.network, options.control_port)
        try:
            state = await control.start(path)
        except OSError as error:
            raise ConfigError(f"the control page can't listen: {error.strerror or error}") from error
        write_state(path.parent, state)
        try:
            with _ending_on_signals(control.ended):
                _greet(devnet, path, say)
                await control.ended.wait()
        finally:
            (path.parent / STATE_FILE).unlink(missing_ok=True)
            await control.stop()
    say("The devnet has ended.")


def _greet(devnet: Devnet, path: Path, say: Callable[[str], None]) -> None:
    kinds = {NODE: "an Infernet node 1.4.0", HOSTED: "an inference.sh API"}
    for one in devnet.network.describe():
        say(f"{one['name']:<7} {kinds[one['name']]:<22}  {one['url']}")
    say(f"Wrote {path}. Try, in another terminal in {path.parent}:")
    say('  gateway run sentiment --text "VADER is smart, handsome, and funny."')
    say("  gateway devnet fault node1 answer_lost --on submit")
    say("Ctrl-C (or `gateway devnet down`) ends it.")


async def _refuse_second(folder: Path) -> None:
    """Raise ConfigError if the state file leads to a devnet that answers."""
    try:
        state = load_state(folder)
        await ask(state, "status")
    except ConfigError:
        return
    raise ConfigError(
        f"a devnet (process {state.pid}) runs in {folder} already; `gateway devnet down` ends it"
    )


@contextmanager
def _ending_on_signals(ended: asyncio.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set the event, where the loop can do that (not on Windows)."""
    loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    with suppress(NotImplementedError):
        for number in signals:
            loop.add_signal_handler(number, ended.set)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            for number in signals:
                loop.remove_signal_handler(number)


def _require_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("aiohttp", "vaderSentiment") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the devnet needs {' and '.join(missing)}: pip install 'inference-gateway[devnet]'"
        )


async def _start_chain(stack: AsyncExitStack) -> tuple[ChainPlace, CoordinatorSide]:
    """Start a local chain with Infernet's contracts. Raises ToolMissing (a ConfigError) without anvil."""
    from importlib.util import find_spec

    if find_spec("web3") is None:
        raise ConfigError("a local chain needs web3: pip install 'inference-gateway[infernet-chain]'")
    from gateway.devnet.chain.anvil import SIGNER, Anvil
    from gateway.devnet.chain.delegate import CoordinatorSide
    from gateway.devnet.chain.deploy import deploy

    chain = await stack.enter_async_context(Anvil())
    addresses = await deploy(chain.web3)
    side = CoordinatorSide(chain.web3, addresses.coordinator)
    return ChainPlace(chain.url, addresses, SIGNER.key), side


async def _start_ogpu(stack: AsyncExitStack) -> OgpuPlace:
    """Start OGPU on a chain of its own, on whichever EVM is there. Raises ToolMissing without any."""
    from gateway.devnet.chain.chain import make_chain
    from gateway.devnet.ogpu.devnet import MAINNET_ID, OgpuDevnet

    ogpu = await stack.enter_async_context(OgpuDevnet(make_chain(chain_id=MAINNET_ID)))
    return OgpuPlace(
        rpc_url=ogpu.rpc_url,
        chain_id=ogpu.chain_id,
        contracts=ogpu.contracts,
        source=ogpu.first_response,
        pin_url=ogpu.pin_url,
        gateway_url=ogpu.gateway_url,
        client_key=ogpu.client.key,
    )
