"""The routes of apps, estimates, balance and entitlements."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.devnet.inferencesh.account import Account, encode_usage
from gateway.devnet.inferencesh.apps import Catalogue, Entry, encode_app, encode_version, select_function
from gateway.devnet.inferencesh.clock import format_time
from gateway.devnet.inferencesh.envelopes import Problem, make_answer, read_object
from gateway.devnet.inferencesh.listing import list_page
from gateway.devnet.inferencesh.tasks import TaskStore
from gateway.types import JSON


@dataclass(frozen=True, slots=True)
class StoreRoutes:
    """What can be run, what it costs, and what is left to pay it with."""

    catalogue: Catalogue
    account: Account
    tasks: TaskStore

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_post("/apps/list", self.show_list)
        router.add_get("/apps/{id}", self.show)
        router.add_get("/apps/{namespace}/{name}", self.show_by_ref)
        router.add_get("/apps/{id}/versions/{version_id}", self.show_version)
        router.add_post("/apps/{id}/versions/list", self.list_versions)
        router.add_post("/store/apps/{id}/estimate", self.estimate)
        router.add_get("/billing/balance", self.balance)
        router.add_get("/entitlements/usage", self.usage)

    async def show(self, request: web.Request) -> web.Response:
        """`GET /apps/{id}`."""
        return make_answer(request, encode_app(self._get_newest(request)))

    async def show_by_ref(self, request: web.Request) -> web.Response:
        """`GET /apps/{ns}/{name}`; the name may carry a version and a function, as a reference does."""
        ref = f"{request.match_info['namespace']}/{request.match_info['name']}"
        entry = self.catalogue.get_by_ref(ref)
        named = entry.function_name if ":" in ref else ""
        return make_answer(request, encode_app(entry, resolved_function=named))

    async def show_list(self, request: web.Request) -> web.Response:
        """`POST /apps/list`."""
        entries = [Entry(app, app.versions[-1], app.default_function) for app in self.catalogue]
        items = [{**encode_app(entry), "created_at": format_time(0)} for entry in entries]
        return make_answer(request, list_page(items, await read_object(request)))

    async def show_version(self, request: web.Request) -> web.Response:
        """`GET /apps/{id}/versions/{vid}`."""
        entry = self.catalogue.get_by_version_id(request.match_info["version_id"])
        if entry.app.id != request.match_info["id"]:
            raise Problem(404, "not_found", "the app has no such version")
        return make_answer(request, encode_version(entry))

    async def list_versions(self, request: web.Request) -> web.Response:
        """`POST /apps/{id}/versions/list`."""
        app = self.catalogue.get_by_id(request.match_info["id"])
        entries = [Entry(app, version, app.default_function) for version in app.versions]
        items = [{**encode_version(entry), "created_at": format_time(0)} for entry in entries]
        return make_answer(request, list_page(items, await read_object(request)))

    async def estimate(self, request: web.Request) -> web.Response:
        """`POST /store/apps/{id}/estimate` with `{input, function}`: microcents of 1e-8 USD."""
        entry = self._get_newest(request)
        body: dict[str, JSON] = await read_object(request)
        entry = select_function(entry, body.get("function") or None)
        entry.function.check(body.get("input"))
        return make_answer(request, entry.app.pricing.encode())

    async def balance(self, request: web.Request) -> web.Response:
        """`GET /billing/balance`, in microcents."""
        return make_answer(request, {"balance": self.account.balance_microcents})

    async def usage(self, request: web.Request) -> web.Response:
        """`GET /entitlements/usage`."""
        return make_answer(request, encode_usage(self.account, self.tasks.count_running()))

    def _get_newest(self, request: web.Request) -> Entry:
        app = self.catalogue.get_by_id(request.match_info["id"])
        return Entry(app, app.versions[-1], app.default_function)
