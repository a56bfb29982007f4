"""Several ways into one store: gateways in one process share its connections, threads and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gateway.store.news import Shared

if TYPE_CHECKING:
    from gateway.store.protocol import Store


class Doors:
    """Makes them; the store is open from the first door's opening until the last one is closed."""

    def __init__(self, store: Store) -> None:
        """Make it, without any door."""
        self._store = store
        self._opened: set[_Door] = set()

    def make(self) -> Store:
        """Return one more: the store, but for its opening and closing."""
        return cast("Store", _Door(self._store, self._opened))


class _Door:
    def __init__(self, store: Store, opened: set[_Door]) -> None:
        self._store, self._opened = store, opened
        self.create, self.save = store.create, store.save  # what each run calls, past __getattr__
        if isinstance(store, Shared):  # which is asked of us as well, and looks for it here
            self.news = store.news

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open(self) -> None:
        await self._store.open()
        self._opened.add(self)

    async def aclose(self) -> None:
        if self in self._opened:
            self._opened.discard(self)
            if not self._opened:
                await self._store.aclose()
