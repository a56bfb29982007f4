"""`gateway devnet up`: the stand-ins, their control page and a configuration, until somebody ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.devnet import chains
from gateway.devnet.control import STATE_FILE, Control, ask, load_state, write_state
from gateway.devnet.faults import StandIn
from gateway.devnet.network import Network
from gateway.devnet.settings import (
    CLIENT_FILE,
    KEY_FILE,
    SIGNER_FILE,
    check_replaceable,
    make_config_text,
    write_secret,
)
from gateway.errors import ConfigError

API_KEY = "inf_devnet"
NODE = "node1"
HOSTED = "hosted"
_KINDS = {
    NODE: "an Infernet node 1.4.0",
    HOSTED: "an inference.sh API",
    "chain": "OGPU on a local chain",
    "content": "its files",
    "bots": "run its tasks",
}


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
        chain: also run local chains: one for the node's chain side, and one with OGPU on it. None: if what
            they need is installed.
        force: replace a configuration that the devnet did not write.
    """

    config: Path
    node_port: int = 0
    api_port: int = 0
    control_port: int = 0
    rate_limit: int | None = None
    chain: bool | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Devnet:
    """A devnet that runs.

    Attributes:
        network: its stand-ins.
        config_text: a gateway.toml for it; the files that it names are still to be written.
        secrets: those files, name -> content.
        chainless: why there is no chain; None if there is one, or none was wanted.
    """

    network: Network
    config_text: str
    secrets: dict[str, str]
    chainless: str | None = None

    def write_config(self, path: Path) -> None:
        """Write the configuration and the files that it names beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, secret in self.secrets.items():
            write_secret(path.parent / name, secret)
        path.write_text(self.config_text, encoding="utf-8")


@asynccontextmanager
async def open_devnet(
    *,
    node_port: int = 0,
    api_port: int = 0,
    rate_limit: int | None = None,
    chain: bool | None = False,
    block_seconds: int | None = 1,
) -> AsyncIterator[Devnet]:
    """Run a devnet in this event loop for as long as the block lasts; the words are those of Options.

    `block_seconds` is the time between two blocks of the chain with OGPU; None: a block per transaction.

    Raises:
        ConfigError: aiohttp or the model is not installed, a port is taken, or there is no chain to be had.
    """
    _require_extra()
    from gateway.devnet.inferencesh import InferenceshApi
    from gateway.devnet.infernet import InfernetNode
    from gateway.devnet.model import analyze

    missing = chains.explain_missing() if chain is not False else None
    if chain and missing:
        raise ConfigError(missing)
    async with AsyncExitStack() as stack:
        place = side = ogpu_place = None
        on_chain: list[StandIn] = []
        if chain is not False and missing is None:
            place, side = await chains.start_infernet_chain(stack)
            ogpu_place, on_chain = await chains.start_ogpu(stack, block_seconds=block_seconds)
        limit = None if rate_limit is None else (rate_limit, 60.0)
        node = InfernetNode(NODE, port=node_port, rate_limit=limit, chain=side)
        hosted = InferenceshApi(HOSTED, port=api_port, api_key=API_KEY)
        network = Network([node, hosted, *on_chain])
        stack.push_async_callback(network.stop)
        await asyncio.to_thread(analyze, "warm")  # the lexicon is read here, not in the first job
        try:
            await network.start()
        except OSError as error:
            raise ConfigError(f"the devnet can't listen: {error.strerror or error}") from error
        secrets = {
            KEY_FILE: API_KEY,
            **({SIGNER_FILE: place.signer_key} if place else {}),
            **({CLIENT_FILE: ogpu_place.client_key} if ogpu_place else {}),
        }
        text = make_config_text(node.url, hosted.url, place, ogpu_place)
        yield Devnet(network, text, secrets, missing)


async def serve(options: Options, say: Callable[[str], None]) -> None:
    """Run a devnet until SIGINT, SIGTERM or `gateway devnet down`; `say` gets the lines for the terminal.

    Raises:
        ConfigError: one runs there already, somebody else's configuration is in the way, a port is taken,
            or its files can't be written.
    """
    path = options.config.absolute()
    await _refuse_second(path.parent)
    with _using_files():
        if not options.force:
            check_replaceable(path)
    async with open_devnet(
        node_port=options.node_port,
        api_port=options.api_port,
        rate_limit=options.rate_limit,
        chain=options.chain,
    ) as devnet:
        with _using_files():
            devnet.write_config(path)
        control = Control(devnet.network, options.control_port)
        try:
            state = await control.start(path)
        except OSError as error:
            raise ConfigError(f"the control page can't listen: {error.strerror or error}") from error
        try:
            with _using_files():
                write_state(path.parent, state)
            with _ending_on_signals(control.ended):
                _greet(devnet, path, say)
                await control.ended.wait()
        finally:
            (path.parent / STATE_FILE).unlink(missing_ok=True)
            await control.stop()
    say("The devnet has ended.")


def _greet(devnet: Devnet, path: Path, say: Callable[[str], None]) -> None:
    for one in devnet.network.describe():
        say(f"{one['name']:<8} {_KINDS[one['name']]:<22}  {one['url']}")
    if devnet.chainless:
        say(f"Without a chain: {devnet.chainless}")
    say(f"Wrote {path}. Try, in another terminal in {path.parent}:")
    say('  gateway run sentiment --text "VADER is smart, handsome, and funny."')
    if "chain" in _list_names(devnet):
        say('  gateway run sentiment-on-ogpu --text "Paid for on a chain."')
    say("  gateway devnet fault node1 answer_lost --on submit")
    say("Ctrl-C (or `gateway devnet down`) ends it.")


def _list_names(devnet: Devnet) -> list[str]:
    return [str(one["name"]) for one in devnet.network.describe()]


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
def _using_files() -> Iterator[None]:
    """Raise ConfigError for a file that can't be had."""
    try:
        yield
    except OSError as error:
        told = f"{error.filename} can't be used: {error.strerror}; --folder names another place"
        raise ConfigError(told) from error


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
