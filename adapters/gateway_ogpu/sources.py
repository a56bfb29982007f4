"""Sources and agents: what a client offers to have run, and who may act for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gateway.config import parse_duration
from gateway.errors import ConfigError
from gateway.types import Money
from gateway_ogpu.acting import Acting, find_events
from gateway_ogpu.config import parse_address
from gateway_ogpu.contracts import ZERO_ADDRESS
from gateway_ogpu.errors import SourceUnknown
from gateway_ogpu.reading import Source, fetch_is_agent, fetch_source, fetch_views
from gateway_ogpu.wire import JSON_TYPE, METADATA_NAME, DeliveryMethod, Environment, encode_json

if TYPE_CHECKING:
    from gateway.chain.receipts import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """A source to publish.

    Attributes:
        name: for people.
        description: for people.
        logo_url: for people.
        cpu: URL of the docker-compose file for machines without a GPU; "" if it does not run there.
        nvidia: the same for NVIDIA.
        amd: the same for AMD. At least one of the three is needed.
        min_payment: the least that a task pays.
        min_lockup: what a provider must have locked up.
        max_expiry: the longest that a task may take.
        delivery: who confirms the answers.
    """

    name: str
    description: str = ""
    logo_url: str = ""
    cpu: str = ""
    nvidia: str = ""
    amd: str = ""
    min_payment: Money
    min_lockup: Money | None = None
    max_expiry: timedelta = timedelta(days=1)
    delivery: DeliveryMethod = DeliveryMethod.FIRST_RESPONSE

    @property
    def environments(self) -> Environment:
        """Where it runs. Raises ConfigError if that is nowhere."""
        found = Environment(0)
        for url, environment in (
            (self.cpu, Environment.CPU),
            (self.nvidia, Environment.NVIDIA),
            (self.amd, Environment.AMD),
        ):
            found |= environment if url else Environment(0)
        if not found:
            raise ConfigError("a source needs a docker-compose URL for cpu, nvidia or amd")
        return found

    def encode_metadata(self) -> bytes:
        """Return its imageMetadata.json."""
        return encode_json(
            {
                "cpu": self.cpu,
                "nvidia": self.nvidia,
                "amd": self.amd,
                "name": self.name,
                "description": self.description,
                "logoUrl": self.logo_url,
            }
        )


def parse_spec(words: Mapping[str, str]) -> SourceSpec:
    """Make a spec of words: `min_payment` as "0.01 OGPU", `max_expiry` as "1d", `delivery` by its name.

    Raises ConfigError for a word that is none, or a value that can't be read.
    """
    readers: Mapping[str, Callable[[str], Any]] = {
        "min_payment": Money.parse,
        "min_lockup": Money.parse,
        "max_expiry": parse_duration,
        "delivery": _parse_delivery,
    }
    try:
        return SourceSpec(**{name: readers.get(name, str)(value) for name, value in words.items()})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the source can't be read: {error}") from error


def _parse_delivery(name: str) -> DeliveryMethod:
    known = {method.name.lower(): method for method in DeliveryMethod}
    if name.lower() not in known:
        raise ValueError(f"there is no delivery {name!r}; known: {', '.join(known)}")
    return known[name.lower()]


@dataclass(frozen=True, slots=True)
class Published:
    """What was published: its address, and the receipt."""

    address: str
    receipt: Receipt


class SourceActs(Acting):
    """The client's sources."""

    async def publish_source(self, spec: SourceSpec | Mapping[str, str]) -> Published:
        """Upload a source's metadata and publish it; we become its client."""
        params = await self._make_params(spec)
        nexus = self.connection.contracts.nexus
        receipt = await self.act(nexus, "publishSource", params)
        [event] = [e for e in find_events(receipt, nexus) if e.name == "SourcePublished"]
        return Published(str(event.arguments["source"]), receipt)

    async def update_source(self, address: str, spec: SourceSpec | Mapping[str, str]) -> Receipt:
        """Put new words in the place of a source's old ones."""
        parse_address(address)
        params = await self._make_params(spec)
        return await self.act(self.connection.contracts.nexus, "updateSource", address, params)

    async def inactivate_source(self, address: str) -> Receipt:
        """Take a source out of service, for ever; tasks that run go on."""
        return await self.act(self.connection.contracts.nexus, "inactivateSource", parse_address(address))

    async def set_agent(self, agent: str, allowed: bool = True) -> Receipt:  # noqa: FBT001, FBT002  the contract's word
        """Let somebody publish, confirm and cancel for us, or no longer."""
        return await self.act(self.connection.contracts.terminal, "setAgent", parse_address(agent), allowed)

    async def is_agent(self, agent: str, client: str | None = None) -> bool:
        """Say whether somebody may act for a client (default: us)."""
        async with self.connection.named():
            terminal = self.connection.contracts.terminal
            return await fetch_is_agent(
                self.connection.rpc, terminal, parse_address(client or self.address), parse_address(agent)
            )

    async def get_source(self, address: str) -> Source:
        """Fetch a source. Raises SourceUnknown."""
        parse_address(address)
        async with self.connection.named():
            source = await fetch_source(self.connection.rpc, self.connection.contracts.nexus, address)
            if source is None:
                raise SourceUnknown(f"the Nexus has no source {address}")
            return source

    async def get_source_tasks(self, address: str) -> Sequence[str]:
        """Fetch the addresses of all tasks of a source, oldest first. Raises SourceUnknown."""
        return await self._fetch_list(address, "getTaskCount", "getTasks")

    async def get_source_registrants(self, address: str) -> Sequence[str]:
        """Fetch the providers that are registered for a source. Raises SourceUnknown."""
        return await self._fetch_list(address, "getRegistrantCount", "getRegistrants")

    async def _fetch_list(self, address: str, count_name: str, name: str) -> Sequence[str]:
        """Fetch a whole list: a lower bound above 0 panics, both bounds belong, and there are holes."""
        parse_address(address)
        async with self.connection.named():
            nexus = self.connection.contracts.nexus
            number, count = await fetch_views(
                self.connection.rpc, [(nexus, "getSourceId", address), (address, count_name)]
            )
            if not number or count is None:
                raise SourceUnknown(f"the Nexus has no source {address}")
            if not count:
                return []
            [found] = await fetch_views(self.connection.rpc, [(address, name, 0, count - 1)])
            return [one for one in found or () if one != ZERO_ADDRESS]

    async def _make_params(self, words: SourceSpec | Mapping[str, str]) -> tuple[Any, ...]:
        spec = words if isinstance(words, SourceSpec) else parse_spec(words)
        environments = int(spec.environments)
        async with self.connection.named():
            stored = await self.connection.content.put(
                spec.encode_metadata(), filename=METADATA_NAME, content_type=JSON_TYPE
            )
            return (
                self.address,
                stored.uri,
                environments,
                spec.min_payment.amount,
                spec.min_lockup.amount if spec.min_lockup else 0,
                int(spec.max_expiry.total_seconds()),
                False,
                "",
                int(spec.delivery),
                int(self.connection.clock.now().timestamp()),
            )
