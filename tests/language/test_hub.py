"""The hub as a source, played by a real loopback server with faults."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_sources import HALF, SIZE, Hub, entry_for, in_another_process, left_in, output_of

from fathom.errors import DownloadError
from fathom.language.download import cached, obtain


def test_a_file_is_fetched_once_and_then_comes_from_the_cache(hub: Hub, cache: Path, content: bytes) -> None:
    entry = entry_for(content, hub=True)
    assert cached(entry) is None
    path = obtain(entry)
    assert path.read_bytes() == content
    assert path == obtain(entry) == cached(entry) == cache / "models" / "tiny.gguf"
    assert hub.ranges == [None]
    assert left_in(cache) == {"tiny.gguf", "tiny.gguf.verified"}


def test_a_dropped_connection_is_resumed_where_it_broke(hub: Hub, cache: Path, content: bytes) -> None:
    hub.breaks_after = 120_000
    assert obtain(entry_for(content, hub=True)).read_bytes() == content
    assert hub.ranges == [None, "bytes=120000-", "bytes=240000-"]


def test_a_server_without_ranges_is_asked_for_the_whole_again(hub: Hub, cache: Path, content: bytes) -> None:
    hub.heeds_range = False
    (cache / "models").mkdir(parents=True)
    (cache / "models" / "tiny.gguf.partial").write_bytes(content[:HALF])
    assert obtain(entry_for(content, hub=True)).read_bytes() == content


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.integers(0, SIZE + 10), right=st.booleans())
def test_whatever_an_earlier_call_left_the_result_is_the_file(
    kept: int, right: bool, hub: Hub, cache: Path, content: bytes
) -> None:
    models = cache / "models"
    models.mkdir(parents=True, exist_ok=True)
    (models / "tiny.gguf").unlink(missing_ok=True)
    (models / "tiny.gguf.partial").write_bytes(
        (content if right else content[::-1])[:kept] + bytes(max(0, kept - SIZE))
    )
    assert obtain(entry_for(content, hub=True)).read_bytes() == content
    assert left_in(cache) == {"tiny.gguf", "tiny.gguf.verified"}


def _wrong_bytes(hub: Hub) -> None:
    hub.content = hub.content[:-1] + bytes([hub.content[-1] ^ 1])


def _wrong_size(hub: Hub) -> None:
    hub.content += b"more"


def _not_found(hub: Hub) -> None:
    hub.status = 404


def _failing(hub: Hub) -> None:
    hub.status = 503


def _dropping(hub: Hub) -> None:
    hub.breaks_after = 0


def _silent(hub: Hub) -> None:
    hub.silent = True


FAULTS = [
    (_wrong_bytes, "refused and removed.*its sha256 is"),
    (_wrong_size, "300004 bytes long, not 300000"),
    (_not_found, "HTTP status 404"),
    (_failing, "HTTP status 503"),
    (_dropping, "the connection closed after 0 of 300,000 bytes"),
    pytest.param(_silent, "did not answer within 3 s", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("break_it", "message"), FAULTS)
def test_a_faulty_hub_is_reported_and_leaves_nothing_that_could_be_used(
    break_it: Callable[[Hub], None], message: str, hub: Hub, cache: Path, content: bytes
) -> None:
    break_it(hub)
    with pytest.raises(DownloadError, match=message):
        obtain(entry_for(content, hub=True))
    assert left_in(cache) <= {"tiny.gguf.partial"}
    assert cached(entry_for(content)) is None


def test_a_hub_that_nobody_runs_or_that_is_switched_off_says_so(
    cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_for(content, hub=True)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(DownloadError, match="out of reach"):
            obtain(entry)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        obtain(entry)


@pytest.mark.parametrize(
    "endpoint",
    ["file:///etc", "ftp://127.0.0.1", "http://", "http://[::1", "http://a b", "http://127.0.0.1:x", "http://ä.."],
)
def test_an_endpoint_that_makes_no_sense_is_reported(
    endpoint: str, cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(DownloadError, match=r"not an http or https address|not an address|out of reach"):
        obtain(entry_for(content, hub=True))


def test_a_killed_download_resumes_at_its_last_byte(hub: Hub, cache: Path, content: bytes) -> None:
    entry = entry_for(content, hub=True)
    hub.stalls_after = HALF
    process = in_another_process(entry)
    partial = cache / "models" / "tiny.gguf.partial"
    assert hub.sent_so_far.wait(30)
    while not partial.exists() or partial.stat().st_size == 0:
        time.sleep(0.01)
    process.kill()
    output_of(process)
    kept = partial.stat().st_size
    hub.stalls_after = None
    assert obtain(entry).read_bytes() == content
    assert hub.ranges == [None, f"bytes={kept}-"]
