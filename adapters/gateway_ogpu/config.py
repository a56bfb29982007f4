"""What stands in the configuration about OGPU, and in a target for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from gateway.config import Duration, parse_money
from gateway.errors import InvalidInput
from gateway.types import JSON, Money

ASSET = "OGPU"
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def _check_address(text: object) -> str:
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is not an address: 0x and 40 hexadecimal digits")
    return text


def parse_address(text: str) -> str:
    """Return an address as it was given. Raises InvalidInput if it is none."""
    try:
        return _check_address(text)
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _parse_payment(value: object) -> Money | Literal["cheapest"]:
    if value == "cheapest":
        return "cheapest"
    money = parse_money(value)
    if money.asset != ASSET or money.amount < 0:
        raise ValueError(f'{value!r} is not an amount of {ASSET}; write "0.01 {ASSET}" or "cheapest"')
    return money


def _parse_list(value: object) -> object:
    return (value,) if isinstance(value, str | SecretStr) else value


Address = Annotated[str, BeforeValidator(_check_address)]
Payment = Annotated[Money | Literal["cheapest"], BeforeValidator(_parse_payment)]


class Contracts(BaseModel):
    """Where the contracts of a network are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nexus: Address
    controller: Address
    terminal: Address
    vault: Address


@dataclass(frozen=True, slots=True)
class Network:
    """A network of OGPU, as its SDK 0.2.3 names it.

    Attributes:
        chain_id: of its chain.
        rpc_url: its public RPC.
        contracts: see Contracts.
        pin_url: takes files.
        content_gateways: give them out again.
    """

    chain_id: int
    rpc_url: str
    contracts: Contracts
    pin_url: str = "https://capi.ogpuscan.io/file/create"
    content_gateways: tuple[str, ...] = ("https://cipfs.ogpuscan.io",)


NETWORKS: Mapping[str, Network] = {
    "mainnet": Network(
        chain_id=1071,
        rpc_url="https://mainnet-rpc.ogpuscan.io",
        contracts=Contracts(
            nexus="0x2b0cC6058313801D5feb184a539e3a0C5A87a6a1",
            controller="0x8661F4B9c30e07A04d795A192478dfD905625a1D",
            terminal="0xaEBC7b712D38Fc4d841f0732c21B8774339869D3",
            vault="0xa5c582254AA313528898311362bc698b041580cC",
        ),
    ),
    "testnet": Network(
        chain_id=200820172034,
        rpc_url="https://testnetrpc.ogpuscan.io",
        contracts=Contracts(
            nexus="0xF87bb2f3edB991a998992f14d35fE142e6Bb50b1",
            controller="0x9fb6022074Fd7Bdb429de0776eb693cA0CB55E09",
            terminal="0x1ea332Fc14a5AFD3AF3852B45C263Ab5b1Dd6f52",
            vault="0x15905a2FbD3EF5d3532b931b5656BB9EB493Bb15",
        ),
    ),
}


class OgpuConfig(BaseModel):
    """One network of OGPU, and the account that publishes there.

    Attributes:
        network: "mainnet" or "testnet"; or leave it out and say `contracts`, `chain_id` and the URLs.
        contracts: the contracts of another network.
        chain_id: of another network's chain; an RPC on any other chain is refused.
        rpc_url: one or several, in order of preference; default: the network's own. Kept as secrets: many
            carry a key in their path.
        private_key: of the client, or of an agent of it; without one (and without a keystore) chain and
            content can be read, and nothing else.
        keystore: an encrypted keystore (its JSON), instead of the key.
        keystore_password: opens it.
        content: where configs and files are uploaded: "pin" (a pin service), "kubo" (a node of one's own), or
            "ipfshttpclient" (the same through the package of that name).
        pin_url: of the pin service; default: the network's own.
        content_node: of the node's RPC: a URL for "kubo", a multiaddr for "ipfshttpclient".
        content_node_key: sent to a Kubo node as Authorization, as "Bearer ..." or "Basic ...".
        content_link: the gateway that is named in links to what the node holds, for others must be able to
            fetch it; default: the first of `content_gateways`.
        content_gateways: from where answers are read, beside the node; nobody else is asked. Default: the
            network's own.
        content_cache: keep verified content on this machine: true (the user's cache folder), a folder, or
            false. Nothing is deleted from it.
        confirmations: how deep a block must lie before it is believed; 1: the newest is.
        confirm_after: how long the first response of a FIRST_RESPONSE source may stay unconfirmed by the
            network before it is confirmed by us.
        collect_for: how long bids are collected from the first one on, for tasks that accept the cheapest.
        content_patience: how long an answer that is final may be unreadable before its job has failed.
        max_content_bytes: the most that an answer may have.
        gas_margin_percent: on top of the estimate.
        max_fee: per unit of gas, the most that is offered.
        max_gas_cost: of one transaction, the most that its gas may cost.
        rpc_timeout_seconds: per request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    network: Literal["mainnet", "testnet"] | None = None
    contracts: Contracts | None = None
    chain_id: int | None = Field(default=None, ge=1)
    rpc_url: Annotated[tuple[SecretStr, ...], BeforeValidator(_parse_list)] = ()
    private_key: SecretStr | None = None
    keystore: SecretStr | None = None
    keystore_password: SecretStr | None = None
    content: Literal["pin", "kubo", "ipfshttpclient"] = "pin"
    pin_url: str | None = None
    content_node: SecretStr | None = None
    content_node_key: SecretStr | None = None
    content_link: str | None = None
    content_cache: bool | str = True
    content_gateways: Annotated[tuple[str, ...], BeforeValidator(_parse_list)] = ()
    confirmations: int = Field(default=1, ge=1)
    confirm_after: Duration = timedelta(seconds=30)
    collect_for: Duration = timedelta(seconds=30)
    content_patience: Duration = timedelta(minutes=5)
    max_content_bytes: int = Field(default=32 << 20, ge=1)
    gas_margin_percent: int = Field(default=20, ge=0)
    max_fee: Annotated[Money | None, BeforeValidator(lambda v: None if v is None else _parse_payment(v))] = (
        None
    )
    max_gas_cost: Annotated[
        Money | None, BeforeValidator(lambda v: None if v is None else _parse_payment(v))
    ] = None
    rpc_timeout_seconds: float = Field(default=20.0, gt=0)

    @model_validator(mode="after")
    def _is_whole(self) -> OgpuConfig:
        if (self.network is None) == (self.contracts is None):
            raise ValueError('say either network = "mainnet" (or "testnet") or contracts = { ... }')
        if self.network is not None and self.chain_id is not None:
            raise ValueError("chain_id goes with contracts; a network by name has its own")
        if self.contracts is not None:
            needed = {
                "chain_id": self.chain_id,
                "rpc_url": self.rpc_url,
                **({"pin_url": self.pin_url} if self.content == "pin" else {}),
                "content_gateways": self.content_gateways,
            }
            missing = [name for name, value in needed.items() if not value]
            if missing:
                raise ValueError(f"contracts need {', '.join(missing)} beside them")
        self._check_content()
        if self.private_key is not None and self.keystore is not None:
            raise ValueError("private_key and keystore are two ways to say one thing; say one")
        if (self.keystore is None) != (self.keystore_password is None):
            raise ValueError("keystore and keystore_password go together")
        return self

    def _check_content(self) -> None:
        if self.content != "pin" and self.content_node is None:
            raise ValueError(f'content = "{self.content}" needs content_node: where the RPC of the node is')
        of_nodes = {"content_node": self.content_node, "content_link": self.content_link}
        wrong = [name for name, value in of_nodes.items() if value is not None and self.content == "pin"]
        if self.content_node_key is not None and self.content != "kubo":
            wrong.append("content_node_key")
        if self.pin_url is not None and self.content != "pin":
            wrong.append("pin_url")
        if wrong:
            raise ValueError(f'{", ".join(wrong)} says nothing with content = "{self.content}"')

    def make_network(self) -> Network:
        """Return the network that is meant, with what the configuration says in place of its own words."""
        urls = self.rpc_url[0].get_secret_value() if self.rpc_url else ""
        if self.contracts is not None:
            return Network(
                self.chain_id or 0, urls, self.contracts, self.pin_url or "", self.content_gateways
            )
        named = NETWORKS[self.network or "mainnet"]
        return Network(
            named.chain_id,
            urls or named.rpc_url,
            named.contracts,
            self.pin_url or named.pin_url,
            self.content_gateways or named.content_gateways,
        )


class OgpuTarget(BaseModel):
    """What to run on OGPU, and for how much.

    Attributes:
        source: the address of the source.
        function: one of its functions.
        payment: "0.01 OGPU", or "cheapest": the least that the source takes.
        expires_in: how long providers have, at most the source's longest; a run's own deadline cuts it.
        extra: more keys for the task's config, beside `function_name` and `data`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Address
    function: str = Field(min_length=1)
    payment: Payment = "cheapest"
    expires_in: Duration = timedelta(minutes=15)
    extra: dict[str, JSON] = {}

    @model_validator(mode="after")
    def _is_meant(self) -> OgpuTarget:
        if self.expires_in < timedelta(seconds=1):
            raise ValueError("expires_in is at least a second")
        if {"function_name", "data"} & set(self.extra):
            raise ValueError("extra must not hold function_name or data: those are made from the task")
        return self
