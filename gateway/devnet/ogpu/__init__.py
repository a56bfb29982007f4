"""Stand-in for OGPU: its contracts on a local chain, a pin service and gateway, and providers that answer."""

from gateway.devnet.chain.chain_faults import ChainFault
from gateway.devnet.ogpu.content import ContentFault
from gateway.devnet.ogpu.devnet import OgpuDevnet, TaskOnChain
from gateway.devnet.ogpu.providers import Manner, Provider

__all__ = ["ChainFault", "ContentFault", "Manner", "OgpuDevnet", "Provider", "TaskOnChain"]
