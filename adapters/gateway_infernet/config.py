"""What stands in the configuration about an Infernet node, and in a target for one."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictBool, field_validator, model_validator

from gateway.config import parse_money
from gateway.types import Money

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
DELEGATED = "delegated"  # the kind of payloads and handles that are about delegated subscriptions
ZERO_ADDRESS = "0x" + "0" * 40


def _check_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is not an address: 0x and 40 hexadecimal digits")
    return text


def _has_place(url: str) -> bool:
    """Say whether a host and a port that there can be stand in a URL: sockets know no port 99999."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class ChainConfig(BaseModel):
    """The chain of a node, for delegated subscriptions.

    Attributes:
        rpc_url: a JSON-RPC endpoint of the chain; without one a subscription can be sent but not followed.
        registry: address of the Infernet Registry, which names the Coordinator.
        coordinator: address of the Coordinator itself; either of the two is needed.
        private_key: the key behind the owner contract's getSigner().
        chain_id: asked of the RPC endpoint if absent.
        inbox: where lazy results are read, if only the Coordinator is named; the Registry names it.
        confirmations: how many blocks must lie over what is believed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rpc_url: SecretStr | None = None
    registry: str | None = None
    coordinator: str | None = None
    private_key: SecretStr
    chain_id: int | None = Field(default=None, ge=1)
    inbox: str | None = None
    confirmations: int = Field(default=0, ge=0)

    _addresses = field_validator("registry", "coordinator", "inbox")(
        lambda text: text if text is None else _check_address(text)
    )

    @model_validator(mode="after")
    def _can_sign(self) -> ChainConfig:
        """A signature names the chain and the Coordinator: both must be known, or an RPC to ask."""
        if self.registry is None and self.coordinator is None:
            raise ValueError("chain needs `registry` or `coordinator`")
        if self.rpc_url is None and (self.coordinator is None or self.chain_id is None):
            raise ValueError("chain without `rpc_url` needs `coordinator` and `chain_id`")
        return self


class InfernetConfig(BaseModel):
    """One Infernet node.

    Attributes:
        url: where its REST API is, for instance "http://127.0.0.1:4000".
        version: the node's version, if it is not to be asked (/info) for it.
        price: what a job is taken to cost, as "0.001 USD"; absent means free: a node bills nothing itself.
        timeout_seconds: for connecting, and between two reads or writes. A node answers at once, whatever
            its jobs do: seconds of silence mean that it hangs.
        strict_output: a job that "succeeded" with {"code": anything but 200, ...} has failed. A node ignores
            the HTTP status of its containers, so that is how their errors arrive.
        chain: for delegated subscriptions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    version: str | None = Field(default=None, pattern=r"^\d+(\.\d+)*")
    price: Money | None = None
    timeout_seconds: float = Field(default=10.0, gt=0)
    strict_output: bool = True
    chain: ChainConfig | None = None

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not re.match(r"https?://[^/]", url) or not _has_place(url):
            raise ValueError(f'{url!r} is not a URL; write it as "http://127.0.0.1:4000"')
        return url.rstrip("/")

    @field_validator("price", mode="before")
    @classmethod
    def _parse_price(cls, price: object) -> object:
        return None if price is None else parse_money(price)


Uint32 = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Uint256 = Annotated[int, Field(ge=0, lt=2**256, strict=True)]


class DelegatedTarget(BaseModel):
    """A delegated subscription: the node creates it on chain in the owner's name and delivers there.

    Attributes:
        owner: the consumer contract; its getSigner() must be the configured key's address.
        active_at: Unix seconds; now if absent.
        period: seconds between deliveries; 0 for a single one.
        frequency: how many deliveries.
        redundancy: how many nodes must answer each.
        lazy: the result goes to the Inbox and not to the consumer.
        verifier: of proofs; the zero address for none.
        payment_amount: per delivery and node, in the token's smallest unit.
        payment_token: the zero address for the chain's own coin.
        wallet: the Infernet wallet that pays.
        nonce: unique per owner; derived from the attempt if absent.
        expires_in_seconds: how long the signature holds. A failing container is run over and over until
            then (about nine times a second, measured), so keep it short.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: str
    active_at: Uint32 | None = None
    period: Uint32 = 0
    frequency: Annotated[int, Field(ge=1, lt=2**32, strict=True)] = 1
    redundancy: Annotated[int, Field(ge=1, lt=2**16, strict=True)] = 1
    lazy: StrictBool = False
    verifier: str = ZERO_ADDRESS
    payment_amount: Uint256 = 0
    payment_token: str = ZERO_ADDRESS
    wallet: str = ZERO_ADDRESS
    nonce: Uint32 | None = None
    expires_in_seconds: Annotated[int, Field(ge=1, le=86_400, strict=True)] = 120

    _addresses = field_validator("owner", "verifier", "payment_token", "wallet")(_check_address)


class InfernetTarget(BaseModel):
    """What a node shall run.

    Attributes:
        containers: ids of containers; more than one is a chain: each gets the output of the one before.
        requires_proof: the containers shall prove what they did.
        strict_output: overrides the node's setting, for models whose answers have a `code` of their own.
        delegated: run it as a delegated subscription instead of a job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    containers: Annotated[list[str], Field(min_length=1)]
    requires_proof: StrictBool | None = None
    strict_output: bool | None = None
    delegated: DelegatedTarget | None = None

    @field_validator("containers")
    @classmethod
    def _are_ids(cls, containers: list[str]) -> list[str]:
        for container in containers:
            if not container.strip() or "," in container:
                raise ValueError(f"{container!r} is not a container id: one each, no commas, not empty")
        return containers
