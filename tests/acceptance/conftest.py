"""The fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from terminal import Terminal, running_devnet


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A devnet in a process of its own, without a chain, and a terminal in its folder."""
    with running_devnet(tmp_path_factory.mktemp("devnet"), "--no-chain") as terminal:
        yield terminal


@pytest.fixture
def terminal(devnet: Terminal) -> Iterator[Terminal]:
    """The same, with both stand-ins up and nothing armed."""
    devnet.say("devnet", "clear")
    for name in ("node1", "hosted"):
        devnet.say("devnet", "start", name)
    yield devnet
    devnet.close()
