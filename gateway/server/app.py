"""The ASGI application: one async callable that finds the route, the caller and the answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.errors import GatewayError
from gateway.server.callers import NOBODY
from gateway.server.problems import (
    BAD_REQUEST,
    CROSS_SITE,
    DEFECT,
    WRONG_HOST,
    Problem,
    Refusal,
    make_problem,
)
from gateway.server.routes import Face, Found, Table
from gateway.server.service import Service
from gateway.server.wire import (
    Answer,
    AsgiScope,
    Disconnected,
    Receive,
    Request,
    Response,
    Send,
    find_header,
    send_answer,
)

_log = logging.getLogger("gateway.server")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def make_faces() -> list[Face]:
    """Return every protocol that the server speaks. A new one is added here, and nowhere else."""
    from gateway.server import dialects, native

    return [native.make_face(), *dialects.make_faces()]


class App:
    """The server as an ASGI application."""

    def __init__(self, service: Service, faces: Sequence[Face] | None = None) -> None:
        self.service = service
        self.table = Table(make_faces() if faces is None else faces)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] == "http":
            hosting = self.service.gateway.hosting
            hosting.callers += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                hosting.callers -= 1
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:  # a websocket: there is none here
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        found = self.table.find(path)
        answering = self._make_answer(scope, receive, path, found)
        if self.service.observing is None:
            answer = await answering
        else:
            face = found.face.prefix.strip("/") or "native"
            answer = await self.service.observing.answer(scope, face, answering)
        if answer is not None:
            await send_answer(answer, scope, receive, send)

    async def _make_answer(
        self, scope: AsgiScope, receive: Receive, path: str, found: Found
    ) -> Answer | None:
        """Return the answer, whatever happens; None if nobody is there to read it."""
        try:
            return await self._dispatch(scope, receive, path, found)
        except GatewayError as error:
            return found.face.tell(make_problem(error), path)
        except Disconnected:
            return None
        except Exception:  # noqa: BLE001  the last resort: logged, and told as a defect
            _log.exception("%s %s failed", scope["method"], path)
            return found.face.tell(Problem(DEFECT, "this is a defect; the server's log has more", {}), path)

    async def _dispatch(self, scope: AsgiScope, receive: Receive, path: str, found: Found) -> Answer:
        method = scope["method"]
        self._check_host(scope)
        if method == "OPTIONS" and found.routes:
            return Response(204, headers=((b"allow", ", ".join(sorted(found.routes)).encode()),))
        route = found.get_route(method)
        if "\0" in path or b"%00" in scope["query_string"]:  # no store has such names, and some choke on them
            raise Refusal(BAD_REQUEST, "an address has no NUL in it")
        if method not in _SAFE:
            _check_same_site(scope)
        caller = NOBODY
        if route.scope is not None:
            caller = await self.service.learning.find_caller(found.face.read_key(scope))
            caller.require(route.scope)
        scope["gateway.table"] = self.table
        return await route.handle(Request(scope, receive, path, found.params, caller, self.service))

    def _check_host(self, scope: AsgiScope) -> None:
        """Refuse names that are not ours: a page that has its own name point at loopback must not get in."""
        hosts = self.service.settings.hosts or (_LOOPBACK if self.service.keys.is_open else ("*",))
        if "*" in hosts:
            return
        host = find_header(scope, b"host") or ""
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if name.lower() not in hosts:
            raise Refusal(
                WRONG_HOST, f"the server does not answer for the host {name[:80]!r}; see server.hosts"
            )

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.service.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.service.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _check_same_site(scope: AsgiScope) -> None:
    """Refuse what another site's page makes a browser send: it could spend without any key on loopback."""
    origin = find_header(scope, b"origin")
    if origin is None:
        return
    try:
        place = urlsplit(origin).netloc
    except ValueError:  # no browser sends such
        place = ""
    if not place or place.lower() != (find_header(scope, b"host") or "").lower():
        raise Refusal(CROSS_SITE, f"a page of {origin[:80]} may not call this server")
