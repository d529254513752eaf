"""The HTTP side: routes, errors, and a server's life from opening its models to draining.

aiohttp's low-level server is used without its router and middlewares: a table of a dozen exact paths needs neither.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from fathom.errors import FathomError
from fathom.serve import chat
from fathom.serve.config import Config
from fathom.serve.gateway import Gateway
from fathom.serve.models import open_served
from fathom.serve.refusal import Refused, refused
from fathom.serve.replies import json_reply, refusal_reply
from fathom.serve.wire import ModelCard, ModelList

__all__ = ["Server"]

LOG = logging.getLogger("fathom.serve")

Handler = Callable[[Gateway, web.BaseRequest], Awaitable[web.StreamResponse]]


async def _models(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    gateway.keys.client_of(request.headers)
    cards = [ModelCard(served.id, "model", served.created, "fathom") for served in gateway.models.values()]
    name = request.path.removeprefix("/v1/models").strip("/")
    if not name:
        return json_reply(ModelList("list", cards))
    for card in cards:
        if card.id == name:
            return json_reply(card)
    raise Refused(404, f"no model {name!r} is served here", code="model_not_found", param="model")


async def _health(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    return json_reply({"status": "ok"})


async def _ready(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    if gateway.gate.closed:
        raise Refused(503, "shutting down", code="shutting_down")
    return json_reply({"status": "ready"})


ROUTES: dict[str, dict[str, Handler]] = {
    "/healthz": {"GET": _health},
    "/readyz": {"GET": _ready},
    "/v1/models": {"GET": _models},
    "/v1/chat/completions": {"POST": chat.complete},
}


class Server:
    """A gateway on a socket: ``async with Server(config) as server: …``; ``server.url`` is where it is."""

    def __init__(self, config: Config, *, reuse_port: bool = False) -> None:
        self.config = config
        self._reuse_port = reuse_port
        self._stack = AsyncExitStack()
        self.url = ""

    async def __aenter__(self) -> Server:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        config = self.config
        models: dict[str, Any] = {}
        for name, entry in config.models.items():
            models[name] = await open_served(name, entry)
            self._stack.push_async_callback(models[name].aclose)
        self.gateway = Gateway(config, models)
        handler = web.Server(
            self._handle,
            request_factory=self._request,
            access_log=None,
            handler_cancellation=True,
            logger=LOG,
        )
        self._runner = web.ServerRunner(handler, handle_signals=False, shutdown_timeout=config.limits.drain)
        await self._runner.setup()
        self._stack.push_async_callback(self._runner.cleanup)
        site = web.TCPSite(self._runner, config.host, config.port, backlog=1024, reuse_port=self._reuse_port or None)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        most = self.config.limits.body_bytes
        return web.BaseRequest(
            message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=most
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)(self.gateway, request)
        except FathomError as error:
            return refusal_reply(refused(error))
        except ConnectionResetError:
            raise  # the client has left
        except Exception as error:
            LOG.exception("%s %s failed", request.method, request.path)
            return refusal_reply(refused(error))

    def _route(self, request: web.BaseRequest) -> Handler:
        path = request.path
        methods = ROUTES.get(path) or (ROUTES["/v1/models"] if path.startswith("/v1/models/") else None)
        if methods is None:
            raise Refused(404, f"there is nothing at {path[:100]}", code="not_found")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise Refused(405, f"{path} takes {', '.join(methods)}, not {request.method}", code="method_not_allowed")
        return handler

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT; what runs then is given time to end."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        await ended.wait()
        self.gateway.gate.closed = True
