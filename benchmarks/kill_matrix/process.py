"""One process over the store: it makes a call, perhaps with its death arranged, or only looks after runs.

python -m benchmarks.kill_matrix.process ORDERS.json
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel

from benchmarks.kill_matrix.deadly import DeadlyStore, Strike, strike_looking
from benchmarks.kill_matrix.points import Point
from gateway import AsyncGateway, Limits, NoBackend, RunFailed, Task
from gateway.adapter import Adapter
from gateway.policy.budget import Accounting, Budget
from gateway.policy.rates import Rates
from gateway.store import make_store
from gateway.store.protocol import Store
from gateway.types import JSON, Money

MODEL = "echo"
READY = "ready"
_AGAIN_SECONDS = 0.5


class Orders(BaseModel):
    """What a process is to do.

    Attributes:
        adapter: "package:Class".
        backend: its name.
        config: of the adapter.
        target: what is run there.
        store: its URL.
        currency: of the budgets.
        doubt_seconds: how long a doubt is asked after.
        role: "call" makes one call to its end; "replica" says that it is ready and looks after runs.
        key: of the call, idempotent.
        text: what it says.
        point: where the process is to be killed, or None.
        pauses: it is only paused there.
    """

    adapter: str
    backend: str
    config: dict[str, JSON]
    target: dict[str, JSON]
    store: str
    currency: str
    doubt_seconds: float | None = None
    role: Literal["call", "replica"] = "call"
    key: str = ""
    text: str = ""
    point: Point | None = None
    pauses: bool = False


async def work(orders: Orders) -> None:
    """Carry them out."""
    adapter, store = _make_adapter(orders), make_store(orders.store)
    if orders.point is not None:
        strike = Strike(orders.point, pauses=orders.pauses)
        store = cast("Store", DeadlyStore(store, strike))
        strike_looking(adapter, strike)
    limits = Limits.model_validate({"doubt_wait": orders.doubt_seconds})
    async with AsyncGateway(
        [adapter],
        {MODEL: {"targets": {orders.backend: orders.target}}},
        store=store,
        limits=limits,
        accounting=make_accounting(orders.currency),
    ) as gateway:
        print(READY, flush=True)
        if orders.role == "replica":
            await asyncio.Event().wait()
        await _call(gateway, Task(model=MODEL, input={"text": orders.text}), orders.key)


async def _call(gateway: AsyncGateway, task: Task, key: str) -> None:
    while True:
        try:
            await gateway.run(task, idempotency_key=key)
        except NoBackend:  # on a machine that has much else to do; nothing was taken in
            await asyncio.sleep(_AGAIN_SECONDS)
        except RunFailed as failed:
            print(failed)
            return
        else:
            return


def make_accounting(currency: str) -> Accounting:
    """Make two budgets, of all runs and of each, so that every reservation is in two accounts."""
    limit = Money.parse(f"1000 {currency}")
    return Accounting((Budget(limit=limit, per="total"), Budget(limit=limit, per="run")), Rates(currency))


def _make_adapter(orders: Orders) -> Adapter[Any]:
    package, _, name = orders.adapter.partition(":")
    kind: type[Adapter[Any]] = getattr(importlib.import_module(package), name)
    return kind(orders.backend, kind.config_type.model_validate(orders.config))


if __name__ == "__main__":
    asyncio.run(work(Orders.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))))
