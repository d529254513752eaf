"""What contradicts itself, or goes with nothing, is refused by the parameter's name before anything is spent."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from house import ASKED, House
from upstreams import Upstream

FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
TOOLS = [{"type": "function", "function": {"name": "time"}}]


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"logprobs": True, "fathom": {"strategy": "beam"}}, "logprobs", "unsupported_parameter"),
        ({"response_format": FORMAT, "fathom": {"strategy": "refine"}}, "response_format", "unsupported_parameter"),
        ({"response_format": FORMAT, "fathom": {"form": "short"}}, "fathom.form", "unsupported_parameter"),
        ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"logit_bias": {"a": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "what"}}}},
            "response_format.json_schema.schema",
            "invalid_value",
        ),
        ({"tools": TOOLS, "fathom": {"strategy": "beam"}}, "tools", "unsupported_parameter"),
        ({"tools": TOOLS, "fathom": {"strategy": "vote | best-of-n"}}, "tools", "unsupported_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls", "invalid_value"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "rm"}}},
            "tool_choice",
            "invalid_value",
        ),
        (
            {"messages": [*ASKED, {"role": "tool", "tool_call_id": "x", "content": "rain"}]},
            "messages[1].tool_call_id",
            "invalid_value",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "invalid_value"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    house: House, upstream: Upstream, options: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await house.ask(**options)
    assert (caught.value.type, caught.value.param, caught.value.code) == ("invalid_request_error", param, code)
    assert not upstream.bodies
