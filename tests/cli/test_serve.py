"""``fathom serve`` as it is started wrongly, and the keys that it makes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fathom.cli import app
from fathom.errors import UsageError
from fathom.serve.config import read_config
from fathom.serve.keys import Keys, new_key


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "less than or equal to 65535"),
        (["--port", "-1"], "greater than or equal to 0"),
        (["--host", "a" * 64 + ".example", "--port", "0"], "no keys"),
        (["open.toml", "--host", "a" * 64 + ".example"], "cannot listen"),
        (["open.toml", "--host", "no\x01name..example"], "cannot listen"),
        (["-m", "openai:m@http://127.0.0.1:1/v1", "-m", "openai:m@http://127.0.0.1:2/v1"], "both be called 'm'"),
        (["-m", "embedded", "-m", "embedded"], "both be called 'embedded'"),
        (["-m", "ladder:embedded", "-m", "embedded", "-m", "ladder:embedded"], "both be called 'ladder:embedded'"),
        (2 * ["-m", "ladder:openai:a@http://h:1/v1,openai:b@http://h:2/v1(top_p=1)"], "both be called 'ladder:a,b'"),
        (["open.toml", "-m", "embedded"], "not both"),
        (["--new-key", ""], "1 to 64"),
        (["--new-key", "a\nb"], "printable"),
    ],
)
def test_what_cannot_be_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    (tmp_path / "open.toml").write_text('open = true\nport = 0\n[models.m]\nuri = "openai:m@http://127.0.0.1:1/v1"\n')
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert isinstance(done.exception, UsageError) or done.exit_code == 2
    assert says in done.output + str(done.exception)


PRINTABLE = st.text(min_size=1, max_size=64).filter(str.isprintable)


@settings(max_examples=25, deadline=None)
@given(PRINTABLE | st.sampled_from(['a"b', "a\\b", 'a\\"', "日本", "'", "𝔄"]))
def test_a_new_key_s_lines_are_toml_and_let_it_in(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    key, lines = new_key(name)
    assert tomllib.loads(lines)["keys"][0]["name"] == name
    file = tmp_path_factory.mktemp("keys") / "gateway.toml"
    file.write_text(lines, encoding="utf-8")
    assert Keys(read_config(file).keys).client_of({"Authorization": f"Bearer {key}"}).name == name


@given(st.text(max_size=100).filter(lambda name: not name.isprintable() or not 0 < len(name) <= 64))
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        new_key(name)
