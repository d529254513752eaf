"""Listed prices: where they are beyond doubt, and never over the network."""

from __future__ import annotations

import socket
from typing import Any, NoReturn

import pytest

from fathom.language.engines.openai import engine_of
from fathom.language.engines.prices import listed_price


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> NoReturn:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


async def test_a_providers_own_models_have_its_prices() -> None:
    small = await listed_price("gpt-4o-mini", "https://api.openai.com/v1")
    large = await listed_price("gpt-4o", "https://api.openai.com/v1")
    assert small is not None
    assert large is not None
    assert 0 < small.prompt < small.completion < large.completion


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt-4o", "http://localhost:9000/v1"),
        ("gpt-4o", "http://10.0.0.7/v1"),
        ("gpt-4o", "https://gateway.internal.example/v1"),
        ("a-model-of-nobody", "https://api.openai.com/v1"),
    ],
)
async def test_what_is_in_doubt_has_none(model: str, url: str) -> None:
    assert await listed_price(model, url) is None


async def test_an_engine_opened_by_its_address_is_priced_unless_somebody_says() -> None:
    from fathom.language.engines.base import Price

    uri = "gpt-4o-mini@https://api.openai.com/v1"
    engine, told = await engine_of(uri), await engine_of(uri, price=Price(1.0, 2.0))
    assert engine.traits.price == await listed_price("gpt-4o-mini", "https://api.openai.com/v1")
    assert told.traits.price == Price(1.0, 2.0)
    await engine.aclose()
    await told.aclose()
