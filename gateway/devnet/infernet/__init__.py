"""A stand-in for Infernet nodes 0.2.0 to 1.4.0, faithful on the wire."""

from gateway.devnet.infernet.containers import Container, make_containers
from gateway.devnet.infernet.delegated import ChainSide
from gateway.devnet.infernet.node import InfernetNode

__all__ = ["ChainSide", "Container", "InfernetNode", "make_containers"]
