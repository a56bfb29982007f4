"""What the budgets have left for a new run, read without writing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gateway.policy.budget import Accounting, Purse, Spender, list_scopes
from gateway.store.ledger import Ledger


async def fetch_purse(
    ledger: Ledger, accounting: Accounting, spender: Spender, backends: Iterable[str]
) -> Purse | None:
    """Return what a spender has left at each backend now, or None (nothing is read) if no budget applies."""
    budgets = accounting.budgets
    if not budgets:
        return None
    spenders = {name: replace(spender, backend=name) for name in backends}
    scopes = list_scopes(budgets, spenders.values())
    return Purse(accounting, spenders, await ledger.fetch_spent(scopes)) if scopes else None
