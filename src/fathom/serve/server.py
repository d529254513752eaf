"""The HTTP side: routes, errors, and a server's life from opening its models to draining.

aiohttp's low-level server is used without its router and middlewares: a table of a dozen exact paths needs neither.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from fathom import tracing
from fathom.errors import FathomError
from fathom.serve import chat, playground, responses, watching
from fathom.serve.config import Config
from fathom.serve.gateway import Gateway
from fathom.serve.listening import BACKLOG, Listener, bound, doors
from fathom.serve.metrics import CONTENT_TYPE
from fathom.serve.models import Served, open_served, opening_order
from fathom.serve.openapi import document
from fathom.serve.refusal import Refused, refused
from fathom.serve.replies import ARRIVED, ID, json_reply, new_id, refusal_reply
from fathom.serve.shared import Allowances, Share
from fathom.serve.wire import ModelList

__all__ = ["Server"]

LOG = logging.getLogger("fathom.serve")

Handler = Callable[[Gateway, web.BaseRequest], Awaitable[web.StreamResponse]]


async def _models(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    gateway.keys.client_of(request.headers)
    cards = [served.card for served in gateway.models.values()]
    name = request.path.removeprefix("/v1/models").strip("/")
    if not name:
        return json_reply(ModelList("list", cards))
    for card in cards:
        if card.id == name:
            return json_reply(card)
    raise Refused(404, f"no model {name!r} is served here", code="model_not_found", param="model")


async def _health(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    return json_reply({"status": "ok"})


async def _metrics(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    gateway.keys.client_of(request.headers)
    return web.Response(body=gateway.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _openapi(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=document(), content_type="application/json")


async def _ready(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    if gateway.gate.closed:
        raise Refused(503, "shutting down", code="shutting_down")
    states = {name: served.state for name, served in gateway.models.items()}
    there = [state == "ready" for state in states.values()]
    status = "ready" if all(there) else "degraded" if any(there) else "unready"
    return json_reply({"status": status, "models": states}, status=200 if any(there) else 503)


ROUTES: dict[str, dict[str, Handler]] = {
    "/healthz": {"GET": _health},
    "/readyz": {"GET": _ready},
    "/metrics": {"GET": _metrics},
    "/openapi.json": {"GET": _openapi},
    "/v1/models": {"GET": _models},
    "/v1/chat/completions": {"POST": chat.complete},
    "/v1/responses": {"POST": responses.respond},
    "/v1/fathom": {"GET": playground.offers},
    "/v1/fathom/stream": {"POST": watching.watch},
    "/": {"GET": playground.page},
}


class Server:
    """A gateway on a socket: ``async with Server(config) as server: …``; ``server.url`` is where it is.

    ``share`` is what it has in common with others on the same port.
    """

    def __init__(self, config: Config, share: Share | None = None) -> None:
        self.config = config
        self.share = share
        self._stack = AsyncExitStack()
        self._host = ""  # the last name that was found to be right: nearly always the next one's too
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
        if config.otel:
            tracing.export()
        models: dict[str, Served] = {}
        for name in opening_order(config.models):
            models[name] = await open_served(name, config.models[name], models)
            self._stack.push_async_callback(models[name].aclose)
        models = {name: models[name] for name in config.models}
        allowances = None
        if self.share is not None:
            allowances = Allowances(self.share)
            self._stack.callback(allowances.close)
        self.gateway = Gateway(config, models, allowances)
        if self.share is not None:
            looking = asyncio.create_task(self.gateway.metrics.keep_looking())
            self._stack.callback(looking.cancel)
        handler = Listener(
            self._handle,
            request_factory=self._request,
            access_log=None,
            handler_cancellation=True,
            logger=LOG,
        )
        self._runner = web.ServerRunner(handler, handle_signals=False, shutdown_timeout=config.limits.drain)
        await self._runner.setup()
        self._stack.push_async_callback(self._runner.cleanup)
        for door in doors(bound(config, shared=self.share is not None)):
            await web.SockSite(self._runner, door, backlog=BACKLOG).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        most = self.config.limits.body_bytes
        request = web.BaseRequest(
            message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=most
        )
        request[ARRIVED] = protocol.heard
        return request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request goes through here, and every error becomes a reply here."""
        request[ID] = new_id("req")
        path, status, began = self._path(request), 499, request[ARRIVED]
        try:
            with tracing.joined(request.headers):
                response = await self._answer(request, path)
            status = response.status
            if not response.prepared:
                response.headers["x-request-id"] = request[ID]
            return response
        finally:
            self.gateway.metrics.requests.labels(path, status).inc()
            LOG.info("%s %s %s %d %.3f s", request[ID], request.method, path, status, time.monotonic() - began)

    async def _answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        try:
            self._check_host(request)
            return await self._handler(request, path)(self.gateway, request)
        except FathomError as error:
            return refusal_reply(refused(error))
        except web.RequestPayloadError as error:
            broken = refusal_reply(Refused(400, f"the body cannot be read: {_cause(error)}", code="invalid_body"))
            broken.force_close()  # where it ends is not known
            return broken
        except ConnectionResetError:
            raise  # the client has left
        except Exception as error:
            LOG.exception("%s: %s %s failed", request[ID], request.method, path)
            return refusal_reply(refused(error))

    def _path(self, request: web.BaseRequest) -> str:
        """The route, by its first part where it has a parameter; ``other`` for what there is not."""
        path = request.path
        if path.startswith("/v1/models/"):
            return "/v1/models"
        return path if path in ROUTES else "other"

    def _handler(self, request: web.BaseRequest, path: str) -> Handler:
        methods = ROUTES.get(path)
        if methods is None:
            raise Refused(404, f"there is nothing at {request.path[:100]}", code="not_found")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise Refused(405, f"{path} takes {', '.join(methods)}, not {request.method}", code="method_not_allowed")
        return handler

    def _check_host(self, request: web.BaseRequest) -> None:
        """A gateway without keys trusts its network. A web page must not get in by giving its own name that address
        (DNS rebinding), so the name by which it is called must be an address, ``localhost``, or one of ``hosts``."""
        if self.gateway.keys.needed:
            return
        host = (request.headers.get("Host") or "").rpartition("@")[2]
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if name == self._host:
            return
        if name not in ("", "localhost") and name not in self.config.hosts and not _is_address(name.strip("[]")):
            raise Refused(403, f"{name[:100]!r} is not a name of this gateway; add it to hosts", code="unknown_host")
        self._host = name

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT; what runs then is given time to end. The process is taken for this server's own."""
        gc.collect()
        gc.freeze()  # what was loaded stays: looking through it for garbage would hold up everybody for 0.1 s at a time
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        await ended.wait()
        self.gateway.gate.closed = True


def _is_address(name: str) -> bool:
    """Whether it is one of IPv4 or IPv6. Zones (``fe80::1%eth0``) are a machine's own names, not a client's to say."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def _cause(error: BaseException) -> str:
    """What was wrong at the bottom of it, in a few words."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return str(error)[:200]
