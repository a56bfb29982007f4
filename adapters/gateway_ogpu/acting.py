"""What every part of the client stands on: one act, from the call to its receipt."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gateway.chain.prepared import Call
from gateway_ogpu.contracts import NexusEvent, encode_call, parse_event
from gateway_ogpu.errors import RevertedInBlock
from gateway_ogpu.sending import Sending

if TYPE_CHECKING:
    from gateway.chain.receipts import Receipt
    from gateway_ogpu.connection import Connection


class Acting:
    """Carries out calls of one account."""

    def __init__(self, connection: Connection, timeout: timedelta) -> None:
        self.connection = connection
        self._timeout = timeout
        self._sending = Sending(connection)

    @property
    def address(self) -> str:
        """Our account's. Raises NoKey without a key."""
        return self.connection.signer.address

    async def act(self, to: str, function: str, *arguments: Any, value: int = 0) -> Receipt:
        """Call a contract's function, and wait for the receipt. Raises as the class says."""
        async with self.connection.named():
            await self.connection.unlock()
            call = Call(to, encode_call(function, *arguments), value)
            prepared = await self._sending.prepare(call, owner=str(uuid.uuid4()), what=function)
            receipt = await self._sending.deliver(prepared, within=self._timeout)
            if not receipt.succeeded:
                raise RevertedInBlock(
                    f"{function} reverted in its block", detail={"transaction": receipt.hash}
                )
            return receipt


def find_events(receipt: Receipt, nexus: str) -> Sequence[NexusEvent]:
    """Return what the Nexus told in a transaction."""
    events = [parse_event(log) for log in receipt.logs if log.address.lower() == nexus.lower()]
    return [event for event in events if event is not None]
