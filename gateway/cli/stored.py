"""The store alone, and the runs in it by what a person types of their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from gateway.errors import RunNotFound
from gateway.store.protocol import RunFilter
from gateway.task import Run

if TYPE_CHECKING:
    from gateway.store.protocol import Store

_FULL_ID = 36
_SEARCHED = 2000


async def find_run(
    text: str,
    list_runs: Callable[[RunFilter], Awaitable[list[Run]]],
    get_run: Callable[[str], Awaitable[Run]],
) -> Run:
    """Return the run of an id, or of a beginning that only one of the newer runs has.

    Raises:
        RunNotFound: none, or more than one, or it is empty, as an unset variable of the shell is.
    """
    if not text.strip():
        raise RunNotFound("the id of the run is empty; `gateway runs` lists them", run_id=text)
    if len(text) >= _FULL_ID:
        return await get_run(text)
    with suppress(RunNotFound):
        return await get_run(text)
    found = [run for run in await list_runs(RunFilter(limit=_SEARCHED)) if run.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RunNotFound(f"there is no run {text}; `gateway runs` lists them", run_id=text)
    raise RunNotFound(f"{len(found)} runs begin with {text}: say more of the id", run_id=text)


@asynccontextmanager
async def open_store(config_path: str | None) -> AsyncIterator[Store]:
    """Open the configured store only: reading it needs no backend and takes over no run."""
    from gateway.config import load, make_store_url
    from gateway.store import make_store

    store = make_store(make_store_url(load(config_path)))
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()
