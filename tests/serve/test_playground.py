"""The playground in a real browser, in front of a real gateway."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Any

import aiohttp
import pytest
from house import ASKED, House, Open
from playwright.async_api import Page, async_playwright, expect
from upstreams import Upstream
from waiting import until

from fathom.serve.config import Limits, ModelEntry

expect.set_options(timeout=120_000)

HOSTILE = "<img src=x onerror=document.title='broken'>"


def votes(body: dict[str, Any], choice: int) -> list[str]:
    """Three in four say 391, and all of them try to break out of the page."""
    said = "17" if (body.get("seed", 0) + choice) % 4 == 0 else "391"
    return ["Seven", " tens", f" {HOSTILE}", " make", " ...", f" \\boxed{{{said}}}"]


def browser() -> str:
    """Where Chromium is."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "the playground's tests need Chromium: apt-get install chromium"
    return found


@pytest.fixture
async def page(house: House, upstream: Upstream) -> AsyncIterator[Page]:
    upstream.tokens, upstream.step = votes, 0.02
    async with opened(house) as page:
        yield page


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[Page]:
    """The page in a browser, which is to ask nobody else and to find nothing wrong."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"], timeout=120_000)
        page = await chromium.new_page(viewport={"width": 1280, "height": 1100})
        page.set_default_timeout(120_000)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(house.url) else problems.append(request.url))
        await page.goto(house.url + "/")
        await expect(page.locator("#model option")).to_have_count(1)
        yield page
        assert not problems
        await chromium.close()


@pytest.mark.slow
async def test_a_person_compares_two_runs_by_keyboard(page: Page) -> None:
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "question"
    await page.press("#within", "End")
    await page.fill("#question", "What is 17 * 23?")
    await page.keyboard.press("Control+Enter")
    first = page.locator("article").nth(0)
    await expect(first).to_have_attribute("data-done", "yes")
    await expect(first.locator(".answer")).to_have_text("391")
    assert await first.locator(".columns li").count() >= 3
    await expect(first.locator(".columns pre").first).to_contain_text(HOSTILE)
    assert await page.locator("article img").count() == 0
    assert await page.title() == "Fathom: playground"
    assert re.search(r"\d", await first.locator(".tally .votes").first.inner_text())
    await expect(first.locator("dl")).to_contain_text("tokens generated")
    await expect(page.locator("#news")).to_contain_text("391")

    await page.focus("#width")
    for _ in range(6):
        await page.keyboard.press("ArrowLeft")
    await page.select_option("#strategy", "direct")
    await page.click("#ask")
    second = page.locator("article").nth(1)
    await expect(second).to_have_attribute("data-done", "yes")
    boxes = [await article.bounding_box() for article in (first, second)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]


@pytest.mark.slow
async def test_stopping_cancels_what_the_upstream_does(page: Page, upstream: Upstream) -> None:
    upstream.step = 3600.0
    await page.click("#ask")
    await expect(page.locator(".columns li").first).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("article")).to_have_attribute("data-done", "failed")
    await until(lambda: not upstream.running)


@pytest.mark.slow
async def test_boards_of_a_recursive_model_change_step_by_step(open_house: Open) -> None:
    house = await open_house(entry=ModelEntry(uri="recursive:queens-8"))
    column = SystemRandom().randrange(8)
    async with opened(house) as page:
        await page.evaluate(
            """() => {
              window.shown = [];
              new MutationObserver(() => document.querySelectorAll(".columns pre").forEach((pre, at) => {
                const seen = window.shown[at] ??= [];
                if (pre.textContent && seen.at(-1) !== pre.textContent) seen.push(pre.textContent);
              })).observe(document.getElementById("runs"), { subtree: true, childList: true, characterData: true });
            }"""
        )
        await page.press("#within", "End")
        await page.fill("#question", "/".join(["." * column + "Q" + "." * (7 - column), *["." * 8] * 7]))
        await page.click("#ask")
        run = page.locator("article")
        await expect(run).to_have_attribute("data-done", "yes")
        answer = await run.locator(".answer").inner_text()
        await expect(run.locator("pre.right").filter(has_text=answer)).not_to_have_count(0)
        shown: list[list[str]] = await page.evaluate("window.shown")
    rows = answer.split()
    assert [row.count("Q") for row in rows] == [1] * 8
    assert sorted(row.index("Q") for row in rows) == list(range(8))
    assert rows[0].index("Q") == column
    boards = [board.split() for seen in shown for board in seen]
    assert all(len(board) == 8 and {len(row) for row in board} == {8} for board in boards)
    assert max(len(seen) for seen in shown) > 1
    assert any(seen[-1].split() == rows for seen in shown)


@pytest.mark.slow
async def test_a_run_whose_connection_ends_says_so(page: Page) -> None:
    begun = 'data: {"type": "begin", "model": "m", "strategy": "vote", "limits": {}}\n\n'
    await page.route("**/v1/fathom/stream", lambda route: route.fulfill(content_type="text/event-stream", body=begun))
    await page.click("#ask")
    await expect(page.locator("article")).to_have_attribute("data-done", "failed")
    await expect(page.locator("article .wrong")).to_contain_text("the connection ended")
    await expect(page.locator("#ask")).to_be_enabled()


@pytest.mark.slow
async def test_no_deadline_can_be_set_that_the_gateway_refuses(open_house: Open) -> None:
    house = await open_house(limits=Limits(seconds=9.5))
    async with opened(house) as page:
        for key, said in (("Home", "100 ms"), ("End", "9.5 s")):
            await page.focus("#within")
            await page.keyboard.press(key)
            await expect(page.locator("#within-said")).to_have_text(said)
        await page.click("#ask")
        await expect(page.locator("article")).to_have_attribute("data-done", "yes")


@pytest.mark.slow
async def test_everything_that_can_be_used_has_a_name(page: Page) -> None:
    unnamed = await page.evaluate(
        "[...document.querySelectorAll('input, select, textarea, button')]"
        ".filter(e => !e.labels?.length && !e.textContent).map(e => e.id)"
    )
    assert unnamed == []


async def test_the_page_allows_no_script_but_its_own(house: House) -> None:
    async with aiohttp.ClientSession() as session, session.get(house.url + "/") as reply:
        policy = reply.headers["Content-Security-Policy"]
        text = await reply.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", text)


async def test_a_watched_run_tells_every_text_as_it_grows(house: House, upstream: Upstream) -> None:
    import msgspec

    upstream.tokens, upstream.step, upstream.many = votes, 0.25, 1
    body = {"model": "m", "messages": ASKED, "seed": 1, "fathom": {"strategy": "vote(stop=never)", "width": 3}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(house.url + "/v1/fathom/stream", json=body) as reply,
    ):
        raw = await reply.text()
    events = [msgspec.json.decode(line[6:]) for line in raw.splitlines() if line.startswith("data: ")]
    assert [events[0]["type"], events[-1]["type"]] == ["begin", "end"]
    grown: dict[str, str] = {}
    for tick in events[1:-1]:
        for id, text in tick["grown"].items():
            grown[id] = grown.get(id, "") + text
    assert set(grown) == {"0", "1", "2"}
    assert all("Seven tens" in text for text in grown.values())
    assert sum(c["votes"] for c in events[-1]["fathom"]["candidates"]) == 3


async def test_the_playground_can_be_switched_off(open_house: Any) -> None:
    house = await open_house(playground=False)
    async with aiohttp.ClientSession() as session, session.get(house.url + "/") as reply:
        assert reply.status == 404
