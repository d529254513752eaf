"""A model file from the model hub over HTTPS, resumed with Range where a connection drops.

``urllib`` rather than the project's aiohttp: one sequential download into a file gains nothing from an event loop, and
a synchronous read can be called from any thread, stops at Ctrl-C, and follows the environment's proxies and
certificates by itself. ``HF_ENDPOINT`` names a mirror and ``HF_HUB_OFFLINE=1`` switches the hub off, as in
``huggingface_hub``.
"""

from __future__ import annotations

import http.client
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from fathom.errors import DownloadError
from fathom.language.catalogue import HubFile
from fathom.language.partial import PartialFile, require_space

__all__ = ["fetch_from_hub"]

_ANSWER_SECONDS = 3.0  # for the reply's headers: without internet the next source gets its turn after this long
_STALL_SECONDS = 20.0  # for the next bytes of a body
_TRIES = 3  # in a row without a single new byte
_CHUNK_BYTES = 2**20
_NETWORK_ERRORS = (OSError, http.client.HTTPException)


def fetch_from_hub(hub: HubFile, partial: PartialFile, report: Callable[[int], None]) -> None:
    """Append what ``partial`` lacks of ``hub``'s file; ``report`` is told the bytes that are there.

    Raises DownloadError where the hub is switched off, out of reach, or serves a file of another size.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        raise DownloadError("switched off by HF_HUB_OFFLINE")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    try:
        scheme = urllib.parse.urlsplit(endpoint).scheme
    except ValueError:
        scheme = ""
    if scheme not in {"http", "https"}:  # urllib would open file: and ftp: as well
        raise DownloadError(f"HF_ENDPOINT={endpoint!r} is not an http or https address")
    url = f"{endpoint}/{hub.repo}/resolve/{hub.revision}/{urllib.parse.quote(hub.file)}"
    require_space(partial.path.parent, partial.missing_bytes)

    fruitless, furthest = 0, partial.length
    while partial.missing_bytes:
        reason = _append_body(url, partial, report)
        fruitless = 0 if partial.length > furthest else fruitless + 1
        furthest = max(furthest, partial.length)
        if fruitless == _TRIES:
            raise DownloadError(f"{url}: {reason} after {partial.length:,} of {partial.size_bytes:,} bytes")
        time.sleep(0.2 * fruitless)


def _append_body(url: str, partial: PartialFile, report: Callable[[int], None]) -> str:
    """One request for the bytes from ``partial.length`` on, appended until the body ends; why it ended."""
    request = urllib.request.Request(url, headers={"User-Agent": "fathom-inference"})
    if partial.length:
        request.add_header("Range", f"bytes={partial.length}-")
    try:
        response = _answer(request)
    except _NETWORK_ERRORS as error:
        return str(error) or type(error).__name__
    with response:
        if _start_of(response, partial, url) == 0:  # also where the server took no notice of Range
            partial.truncate(0)
        while True:
            try:
                chunk = response.read1(_CHUNK_BYTES)  # what is there, so that a kill loses none of it
            except _NETWORK_ERRORS as error:
                return str(error) or type(error).__name__
            if not chunk:
                return "the connection closed"
            partial.append(chunk)
            report(partial.length)


def _start_of(response: http.client.HTTPResponse, partial: PartialFile, url: str) -> int:
    """The offset of the body's first byte; DownloadError where the reply is not about a file of the expected size."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if told is None or int(told[1]) != partial.length:
            raise DownloadError(f"{url} answered another range than was asked for")
        start, size = int(told[1]), told[2]
    else:
        start, size = 0, response.headers.get("Content-Length", "*")
    if size != "*" and size != str(partial.size_bytes):
        raise DownloadError(f"{url} is {size} bytes long, not {partial.size_bytes}: it is another file")
    return start


def _answer(request: urllib.request.Request) -> http.client.HTTPResponse:
    """The reply, its headers read, redirects followed.

    Asked for on a thread of its own, for name resolution heeds no socket timeout and can take half a minute where there
    is no network; a thread that is given up on ends by itself.
    """
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=_STALL_SECONDS))
        except (*_NETWORK_ERRORS, ValueError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="fathom-hub").start()
    try:
        answer = answers.get(timeout=_ANSWER_SECONDS)
    except queue.Empty:
        raise DownloadError(f"{request.full_url} did not answer within {_ANSWER_SECONDS:g} s") from None
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        if answer.code == http.HTTPStatus.TOO_MANY_REQUESTS or answer.code >= 500:
            raise ConnectionError(f"HTTP status {answer.code}")  # may pass: another try is worth it
        raise DownloadError(f"{request.full_url} answered with HTTP status {answer.code}")
    if isinstance(answer, urllib.error.URLError):
        raise DownloadError(f"{request.full_url} is out of reach: {answer.reason}")
    if isinstance(answer, (ValueError, http.client.InvalidURL)):
        raise DownloadError(f"{request.full_url!r} is not an address that can be asked: {answer}")
    if isinstance(answer, Exception):
        raise answer
    return answer
