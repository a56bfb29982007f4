"""The accounts behind budgets and bills, kept in the same transaction as the attempts they belong to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from gateway.errors import BudgetExceeded
from gateway.policy.budget import Spend
from gateway.task import Cost
from gateway.types import AttemptId

if TYPE_CHECKING:
    from gateway.store.bill import BillLine
    from gateway.store.protocol import Claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The cost of one attempt, for the bill; `api_key` is the name of whose run it belongs to."""

    at: datetime
    run_id: str
    api_key: str | None = None
    backend: str
    model: str | None
    ended: bool
    cost: Cost


class Ledger(Protocol):
    """What has been spent, for those who ask."""

    async def fetch_spent(self, scopes: Collection[str] | None = None) -> dict[str, int]:
        """Return what is used per account, in the reporting currency's smallest unit.

        Of all accounts, or of those alone that are named; accounts in which nothing is may be left out.
        """

    async def list_entries(self, since: datetime, api_key: str | None = None) -> list[Entry]:
        """Return the costs of all attempts that began since then, oldest first; with a key, of its runs."""

    async def reopen(self, run_id: str) -> Claimed:
        """Return a run that has ended, to write about its money: who wrote it before can't any more.

        Raises RunNotFound, and InvalidInput while the run goes on.
        """

    async def list_holders(self, backend: str, job_id: str, *, since: datetime) -> list[AttemptId]:
        """Return the attempts that have a backend's job, of runs that are open or ended since then.

        A job is paid for once: whoever finds one that may be an attempt's own asks whose it is.
        """

    async def list_pruned(self, since: datetime, api_key: str | None = None) -> list[BillLine]:
        """Return what the attempts of pruned runs come to, a line for each backend, model, day (UTC) and key.

        The day of `since` is there as a whole. With a key those of its runs alone.
        """


def book(spends: Sequence[Spend], read: Callable[[str], int], write: Callable[[str, int], None]) -> None:
    """Make changes to accounts; the caller undoes all of them if one is refused.

    Raises:
        BudgetExceeded: an account would go beyond its limit.
    """
    for spend in spends:
        used = read(spend.scope)
        if spend.limit is not None and used + spend.amount > spend.limit:
            raise BudgetExceeded(
                spend.budget, wanted=spend.amount, used=used, limit=spend.limit, asset=spend.asset
            )
        write(spend.scope, used + spend.amount)
