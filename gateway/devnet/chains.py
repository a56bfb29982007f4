"""The chains of a devnet: one for an Infernet node's chain side, one with OGPU on it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gateway.devnet.settings import ChainPlace, OgpuPlace

if TYPE_CHECKING:
    from gateway.devnet.chain.delegate import CoordinatorSide
    from gateway.devnet.faults import StandIn


def explain_missing() -> str | None:
    """Say what is missing for local chains, and how to get it; None if nothing is."""
    from gateway.devnet.chain.chain import explain_missing_evm

    missing = [name for name in ("web3", "eth_account") if find_spec(name) is None]
    if missing:
        return f"a local chain needs {' and '.join(missing)}: pip install 'inference-gateway[ogpu,devnet]'"
    return explain_missing_evm()


async def start_infernet_chain(stack: AsyncExitStack) -> tuple[ChainPlace, CoordinatorSide]:
    """Start a local chain with Infernet's contracts, until the stack ends."""
    from gateway.devnet.chain.anvil import CHAIN_ID, SIGNER
    from gateway.devnet.chain.chain import make_chain
    from gateway.devnet.chain.delegate import CoordinatorSide
    from gateway.devnet.chain.deploy import deploy

    chain = make_chain(chain_id=CHAIN_ID)
    stack.push_async_callback(chain.stop)
    await chain.start()
    addresses = await deploy(chain.web3)
    side = CoordinatorSide(chain.web3, addresses.coordinator)
    return ChainPlace(chain.url, addresses, SIGNER.key), side


async def start_ogpu(
    stack: AsyncExitStack, *, block_seconds: int | None = 1
) -> tuple[OgpuPlace, list[StandIn]]:
    """Start OGPU on a chain of its own, until the stack ends; return its parts as stand-ins too."""
    from gateway.devnet.chain.chain import make_chain
    from gateway.devnet.ogpu import OgpuDevnet
    from gateway.devnet.ogpu.devnet import MAINNET_ID
    from gateway.devnet.ogpu.stand_ins import BotsStandIn, ChainStandIn, ContentStandIn

    chain = make_chain(chain_id=MAINNET_ID, block_seconds=block_seconds)
    ogpu = await stack.enter_async_context(OgpuDevnet(chain))
    place = OgpuPlace(
        rpc_url=ogpu.rpc_url,
        chain_id=ogpu.chain_id,
        contracts=ogpu.contracts,
        source=ogpu.first_response,
        pin_url=ogpu.pin_url,
        gateway_url=ogpu.gateway_url,
        client_key=ogpu.client.key,
    )
    return place, [ChainStandIn(ogpu), ContentStandIn(ogpu.content), BotsStandIn(ogpu)]
