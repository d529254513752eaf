"""``GET /``: one page on which a person can feel what width and depth buy, and what the page needs to know.

The page is one file that comes with the package. It asks nobody but the gateway, and its content security policy allows
no script and no style but its own, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from importlib.resources import files

from aiohttp import web

from fathom.search import STRATEGIES
from fathom.serve.gateway import Gateway
from fathom.serve.refusal import Refused
from fathom.serve.replies import json_reply

__all__ = ["offers", "page"]


@lru_cache(maxsize=1)
def _page() -> tuple[bytes, dict[str, str]]:
    """The page, and the headers that it is sent with."""
    text = files("fathom.serve").joinpath("playground.html").read_text(encoding="utf-8")
    policy = [
        "default-src 'none'",
        *(f"{kind}-src {_hash(text, tag)}" for kind, tag in (("script", "script"), ("style", "style"))),
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return text.encode(), headers


def _hash(text: str, tag: str) -> str:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


async def page(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    """The page itself needs no key: it asks for one where the gateway does."""
    if not gateway.config.playground:
        raise Refused(404, "the playground is switched off", code="not_found")
    body, headers = _page()
    return web.Response(body=body, headers=headers)


async def offers(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    """``GET /v1/fathom``: models, strategies and limits, for the page and for other clients."""
    gateway.keys.client_of(request.headers)
    limits = gateway.config.limits
    named = [{"name": name, "summary": spec} for name, spec in gateway.config.strategies.items()]
    return json_reply(
        {
            "models": list(gateway.models),
            "strategies": [{"name": entry.name, "summary": entry.summary} for entry in STRATEGIES] + named,
            "judges": gateway.config.judges,
            "limits": {
                "width": limits.width,
                "depth": limits.depth,
                "seconds": limits.seconds,
                "tokens": limits.tokens,
            },
        }
    )
