"""What hosted models cost, from the tables that come with the package genai-prices: nothing is asked over the network.

A price is taken only where it is beyond doubt: the server's address is that of a provider whose prices are listed, and
the model's name is one of its own. Discounts for cached prompts and surcharges for long ones are left out.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from urllib.parse import urlsplit

from fathom.language.engines.base import Price

__all__ = ["listed_price"]

SAMPLE = 1000  # tokens, for which no surcharge for long prompts is listed


async def listed_price(model: str, base_url: str) -> Price | None:
    """The price that a provider lists; None where the address is nobody's or the package is not installed."""
    return None if _private(base_url) else await asyncio.to_thread(_listed, model, base_url)


def _listed(model: str, base_url: str) -> Price | None:
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    try:
        found = calc_price(Usage(input_tokens=SAMPLE, output_tokens=SAMPLE), model, provider_api_url=base_url)
    except LookupError:
        return None
    per_million = 1e6 / SAMPLE
    return Price(float(found.input_price) * per_million, float(found.output_price) * per_million)


def _private(base_url: str) -> bool:
    """Whether the address can be no provider's: then the tables, which take a second to load, need not be read."""
    host = urlsplit(base_url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host
