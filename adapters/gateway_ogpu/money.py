"""The vault: what a client pays from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import InvalidInput
from gateway.types import Money
from gateway_ogpu.acting import Acting
from gateway_ogpu.config import ASSET, parse_address
from gateway_ogpu.reading import Balances, fetch_balances

if TYPE_CHECKING:
    from gateway.chain.receipts import Receipt


class MoneyActs(Acting):
    """The client's money."""

    async def deposit(self, amount: Money, account: str | None = None) -> Receipt:
        """Put money from our wallet into the vault, for us or for somebody else."""
        vault = self.connection.contracts.vault
        return await self.act(
            vault, "deposit", parse_address(account or self.address), value=_get_wei(amount)
        )

    async def withdraw(self, amount: Money) -> Receipt:
        """Take money out of the vault into our wallet. Raises VaultTooLow."""
        return await self.act(self.connection.contracts.vault, "withdraw", _get_wei(amount))

    async def lock(self, amount: Money) -> Receipt:
        """Lock money of the vault up. Raises VaultTooLow."""
        return await self.act(self.connection.contracts.vault, "lock", _get_wei(amount))

    async def unbond(self, amount: Money) -> Receipt:
        """Begin to unlock money; `claim` when the vault's unbonding period is over."""
        return await self.act(self.connection.contracts.vault, "unbond", _get_wei(amount))

    async def cancel_unbonding(self) -> Receipt:
        """Lock up again what is being unlocked. Testnet's vault does not have this."""
        return await self.act(self.connection.contracts.vault, "cancelUnbonding")

    async def claim(self) -> Receipt:
        """Take what is unlocked into the vault's free balance."""
        return await self.act(self.connection.contracts.vault, "claim")

    async def balances(self, account: str | None = None) -> Balances:
        """Fetch what an account has (default: ours)."""
        async with self.connection.named():
            return await fetch_balances(
                self.connection.rpc, self.connection.contracts.vault, parse_address(account or self.address)
            )


def _get_wei(amount: Money) -> int:
    if amount.asset != ASSET or amount.amount <= 0:
        raise InvalidInput(f"{amount} is not a positive amount of {ASSET}")
    return amount.amount
