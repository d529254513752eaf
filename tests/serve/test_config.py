"""The gateway's file: what is right, and the line of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.errors import FathomError, InputError
from fathom.serve.config import Config, check, read_config

GOOD = """\
host = "127.0.0.1"
port = 9000

[limits]
width = 8
seconds = 60

[models.small]
uri = "openai:small@http://localhost:1/v1"
strategy = "careful"
price = { prompt = 0.15, completion = 0.6 }

[models.small.efforts.high]
width = 8
within = "20s"

[strategies]
careful = "vote(width=8, sure=0.99)"

[[keys]]
name = "alice"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
tokens_per_minute = 10_000
"""


def wrong(tmp_path: Path, old: str, new: str) -> str:
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_config(file)
    return str(caught.value)


def test_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD)
    config = read_config(file)
    assert config.models["small"].efforts["high"].width == 8
    assert config.limits.queue == Config().limits.queue
    assert config.keys[0].tokens_per_minute == 10_000


@pytest.mark.parametrize(
    ("old", "new", "line", "about"),
    [
        ("port = 9000", "port = 99999", 2, "port"),
        ("port = 9000", "prot = 9000", 2, "prot"),
        ("port = 9000", "port = = 9000", 2, ""),
        ("width = 8\nseconds", "width = 0\nseconds", 5, "limits.width"),
        ("seconds = 60", "second = 60", 6, "second"),
        ('strategy = "careful"', 'strategy = "carefull"', 10, "carefull"),
        ("prompt = 0.15", "prompt = -1", 11, "price"),
        ("[models.small.efforts.high]", "[models.small.efforts.hihg]", 13, "hihg"),
        ("within", "whithin", 15, "whithin"),
        ("sure=0.99", "sure=7", 18, "sure"),
        ('name = "alice"', "name = 7", 21, "name"),
        ("00000000", "zzzzzzzz", 22, "sha256"),
        ("tokens_per_minute", "tokens_a_minute", 23, "tokens_a_minute"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, about: str) -> None:
    said = wrong(tmp_path, old, new)
    assert f"line {line}" in said
    assert about in said


def test_others_are_not_served_without_keys_unless_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(FathomError, match="keys"):
        check(Config(host="0.0.0.0"))
    check(Config(host="0.0.0.0", open=True))
    check(Config(host="::1"))


def test_a_key_of_an_upstream_is_named_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMALL_KEY", raising=False)
    said = wrong(tmp_path, 'strategy = "careful"', 'api_key_env = "SMALL_KEY"')
    assert "line 10" in said
    assert "SMALL_KEY" in said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_config(tmp_path / "none.toml")
