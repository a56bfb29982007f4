"""OGPU's table in the configuration, and its targets: what is meant, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import ConfigError
from gateway.types import Money
from gateway_ogpu import OgpuAdapter, OgpuConfig, OgpuTarget
from gateway_ogpu.sources import parse_spec
from gateway_ogpu.wire import DeliveryMethod, Environment

KEY = "0x" + "17" * 32
ADDRESS = "0x" + "ab" * 20
CONTRACTS = {"nexus": ADDRESS, "controller": ADDRESS, "terminal": ADDRESS, "vault": ADDRESS}
CUSTOM: dict[str, Any] = {
    "contracts": CONTRACTS,
    "chain_id": 7,
    "rpc_url": "http://127.0.0.1:1/secret-path",
    "pin_url": "http://127.0.0.1:2",
    "content_gateways": ["http://127.0.0.1:3"],
}


def test_networks_by_name() -> None:
    main, test = (OgpuConfig(network=name).make_network() for name in ("mainnet", "testnet"))
    assert (main.chain_id, test.chain_id) == (1071, 200820172034)
    assert main.rpc_url == "https://mainnet-rpc.ogpuscan.io"
    assert main.contracts.controller == "0x8661F4B9c30e07A04d795A192478dfD905625a1D"
    assert test.contracts.vault == "0x15905a2FbD3EF5d3532b931b5656BB9EB493Bb15"


def test_the_address_names_chain_and_nexus_and_no_url() -> None:
    adapter = OgpuAdapter("chain", OgpuConfig(**CUSTOM))
    assert adapter.address == f"eip155:7/{ADDRESS}"


def test_nothing_secret_is_printed() -> None:
    custom = {name: value for name, value in CUSTOM.items() if name != "pin_url"}
    node = {"content": "kubo", "content_node": "http://127.0.0.1:9/secret-path", "content_node_key": KEY}
    config = OgpuConfig(**custom, **node, private_key=KEY)
    told = f"{config!r} {config} {config.model_dump_json()} {OgpuAdapter('chain', config)!r}"
    assert "secret-path" not in told
    assert "1717" not in told


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"network": "mainnet", "chain_id": 1071},
        {"network": "othernet"},
        {**CUSTOM, "chain_id": None},
        {**CUSTOM, "rpc_url": []},
        {**CUSTOM, "network": "mainnet"},
        {"network": "mainnet", "private_key": KEY, "keystore": "{}", "keystore_password": "x"},
        {"network": "mainnet", "keystore": "{}"},
        {"network": "mainnet", "confirmations": 0},
        {"network": "mainnet", "content": "kubo"},
        {"network": "mainnet", "content_node": "http://127.0.0.1:5001"},
        {"network": "mainnet", "content": "local"},
        {**CUSTOM, "content": "kubo", "content_node": "http://127.0.0.1:5001"},
        {"network": "mainnet", "content": "ipfshttpclient", "content_node": "x", "content_node_key": KEY},
        {"network": "mainnet", "no_such_word": 1},
    ],
)
def test_wrong_configurations(words: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        OgpuConfig(**words)
    assert "1717" not in str(caught.value)


def test_a_target() -> None:
    target = OgpuTarget(source=ADDRESS, function="predict", payment="0.01 OGPU", expires_in="15m")
    assert (target.payment, target.expires_in) == (Money(10**16, "OGPU"), timedelta(minutes=15))
    assert OgpuTarget(source=ADDRESS, function="predict").payment == "cheapest"


@pytest.mark.parametrize(
    "words",
    [
        {"source": "0x12"},
        {"function": ""},
        {"payment": "1 USD"},
        {"payment": "-1 OGPU"},
        {"payment": "lots"},
        {"expires_in": "0s"},
        {"extra": {"data": {}}},
    ],
)
def test_wrong_targets(words: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OgpuTarget(**{"source": ADDRESS, "function": "f", **words})


def test_a_source_in_words() -> None:
    spec = parse_spec(
        {"name": "x", "cpu": "u", "amd": "v", "min_payment": "1 OGPU", "delivery": "manual_confirmation"}
    )
    assert spec.environments == Environment.CPU | Environment.AMD
    assert spec.delivery is DeliveryMethod.MANUAL_CONFIRMATION


@pytest.mark.parametrize(
    "words", [{}, {"name": "x", "min_payment": "y"}, {"name": "x", "min_payment": "1 OGPU", "z": ""}]
)
def test_a_source_in_wrong_words(words: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        parse_spec(words)


def test_a_source_that_runs_nowhere() -> None:
    with pytest.raises(ConfigError):
        _ = parse_spec({"name": "x", "min_payment": "1 OGPU"}).environments
