"""The devnet's control page: what another terminal asks of a running devnet, and the client for it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.devnet.network import Network
from gateway.errors import ConfigError, GatewayError, InvalidInput
from gateway.types import JSON

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Middleware

STATE_FILE = ".gateway-devnet.json"
_TOKEN_HEADER = "X-Devnet-Token"  # noqa: S105  the header's name
_ASK_SECONDS = 10.0
Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


@dataclass(frozen=True, slots=True)
class State:
    """What the state file beside the configuration says about a running devnet.

    Attributes:
        url: of the control page, on loopback.
        token: every request carries it, so that no web page can control the devnet through a browser.
        pid: the process.
        config: the configuration that was written.
    """

    url: str
    token: str
    pid: int
    config: str


class Control:
    """The control page of one devnet. `ended` is set when somebody asks for the devnet's end."""

    def __init__(self, network: Network, port: int = 0) -> None:
        self.ended = asyncio.Event()
        self._network = network
        self._port = port
        self._token = secrets.token_urlsafe(24)
        self._runner: web.AppRunner | None = None

    async def start(self, config: Path) -> State:
        """Listen, and return what belongs into the state file. Raises OSError if the port is taken."""
        from aiohttp import web

        app = web.Application(middlewares=[self._make_guard()])
        app.router.add_get("/status", self._tell_status)
        app.router.add_get("/journal", self._tell_journal)
        app.router.add_post("/{order}", self._obey)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return State(url, self._token, os.getpid(), str(config))

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _make_guard(self) -> Middleware:
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not secrets.compare_digest(request.headers.get(_TOKEN_HEADER, ""), self._token):
                return web.json_response({"error": "this is another devnet's token"}, status=403)
            try:
                return await handler(request)
            except (GatewayError, ValueError, OSError) as error:
                return web.json_response({"error": str(error)}, status=400)

        return guard

    async def _tell_status(self, _: web.Request) -> web.StreamResponse:
        from aiohttp import web

        await self._network.refresh()
        return web.json_response(self._network.describe())

    async def _tell_journal(self, _: web.Request) -> web.StreamResponse:
        from aiohttp import web

        await self._network.refresh()
        return web.json_response(self._network.list_accepted(), dumps=json.dumps)

    async def _obey(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        said: dict[str, JSON] = await request.json()
        name = said.get("name")
        match request.match_info["order"]:
            case "down":
                self.ended.set()
            case "clear":
                self._network.clear(name)
            case "fault":
                await self._network.arm(
                    str(name),
                    str(said["fault"]),
                    on=said.get("on"),
                    times=said.get("times", 1),
                    skip=said.get("skip", 0),
                )
            case "stop" | "start" | "restart" as order:
                await getattr(self._network, order)(name)
            case order:
                raise InvalidInput(f"the devnet knows no {order!r}")
        await self._network.refresh()
        return web.json_response(self._network.describe())


def write_state(folder: Path, state: State) -> None:
    """Write the state file, readable for its owner only."""
    path = folder / STATE_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(state), file)


def load_state(folder: Path) -> State:
    """Read the state file. Raises ConfigError if no devnet was started there."""
    path = folder / STATE_FILE
    try:
        return State(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"no devnet runs in {folder.absolute()}; `gateway devnet up` starts one") from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} can't be read: {error}; start the devnet again") from error


async def ask(state: State, order: str, said: Mapping[str, JSON] | None = None) -> JSON:
    """Ask a running devnet: status or journal without `said`, an order with it.

    Raises:
        InvalidInput: it refuses, and says why.
        ConfigError: it does not answer.
    """
    import httpx2

    headers = {_TOKEN_HEADER: state.token}
    async with httpx2.AsyncClient(
        base_url=state.url, headers=headers, trust_env=False, timeout=_ASK_SECONDS
    ) as client:
        try:
            if said is None:
                answer = await client.get(f"/{order}")
            else:
                answer = await client.post(f"/{order}", json=dict(said))
        except httpx2.HTTPError as error:
            raise ConfigError(
                f"the devnet at {state.url} does not answer ({type(error).__name__}); "
                "`gateway devnet up` starts one"
            ) from error
    body = answer.json()
    if answer.is_error:
        raise InvalidInput(str(body.get("error", answer.status_code)))
    return body
