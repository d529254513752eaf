"""How a GGUF file is opened: in process on the C interface where that is there, else through the library's own
server.

The server opens a port on the loopback interface, cannot cancel one of n choices, fork, or continue by token ids; but
it runs on every platform that ``xllamacpp`` has wheels for, and every architecture that llama.cpp has.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import weakref
from dataclasses import replace
from pathlib import Path

from fathom.errors import EngineError
from fathom.language.engines.base import Engine, EngineTraits, Generation, Pace, Prompt, Request
from fathom.language.engines.in_process import CONTEXT, WIDTH
from fathom.language.engines.llama import LlamaEngine
from fathom.language.engines.llama_c import Unsupported, import_library
from fathom.language.engines.llama_model import check_file
from fathom.language.engines.openai import OpenAIEngine
from fathom.language.engines.sampling import complete

__all__ = ["LlamaServerEngine", "open_gguf"]


def open_gguf(
    path: str | Path,
    *,
    context: int = CONTEXT,
    max_width: int = WIDTH,
    threads: int | None = None,
    template: str | None = None,
    draft: str | Path = "off",
    draft_length: int | None = None,
    disk: int | str = 0,
) -> Engine:
    """Open a GGUF file; the options are those of ``LlamaEngine``. ``FATHOM_LLAMA=server`` forces the server, which
    drafts nothing and keeps nothing on disk.

    Raises ModelFileError, MissingDependency, EngineError.
    """
    if os.environ.get("FATHOM_LLAMA") != "server":
        try:
            return LlamaEngine(
                path,
                context=context,
                max_width=max_width,
                threads=threads,
                template=template,
                draft=draft,
                draft_length=draft_length,
                disk=disk,
            )
        except Unsupported:
            pass
    return LlamaServerEngine(path, context=context, max_width=max_width, threads=threads, template=template)


class LlamaServerEngine:
    """llama.cpp's HTTP server inside this process, on a free port of 127.0.0.1 and behind a random key."""

    def __init__(
        self,
        path: str | Path,
        *,
        context: int = CONTEXT,
        max_width: int = WIDTH,
        threads: int | None = None,
        template: str | None = None,
    ) -> None:
        xllamacpp = import_library()
        path = Path(path)
        check_file(path)
        key = secrets.token_urlsafe(32)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.model_alias = [path.stem]
        parameters.n_parallel, parameters.n_ctx, parameters.kv_unified = max_width, context, True
        parameters.hostnames, parameters.port, parameters.api_keys = ["127.0.0.1"], 0, [key]
        parameters.verbosity, parameters.warmup, parameters.cache_ram_mib = -1, False, 0
        count = threads or max(1, (os.cpu_count() or 2) // 2)
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = count
        if template is not None:
            parameters.chat_template = template
        try:
            server = xllamacpp.Server(parameters)
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                f"llama.cpp could not serve {path}: {error}. The file is damaged or of an unknown architecture, or a "
                f"context of {context} tokens is more than fits into memory"
            ) from error
        self._http = OpenAIEngine(path.stem, f"{server.listening_address}/v1", key, max_concurrency=max_width)
        self._held = [server]  # the server ends when nothing refers to it any more
        self._stop = weakref.finalize(self, self._held.clear)
        self._version = f"xllamacpp {xllamacpp.__version__} (server)"
        self._max_width = max_width

    @property
    def traits(self) -> EngineTraits:
        return replace(self._http.traits, max_width=self._max_width, room=4, version=self._version)

    def generate(self, request: Request) -> Generation:
        return self._http.generate(replace(request, sampling=complete(request.sampling)))

    async def count(self, prompt: Prompt) -> int | None:
        return await self._http.count(prompt)

    async def pace(self) -> Pace | None:
        """None: nothing is measured through the server. What it is and can is asked here."""
        await self._http.identify()
        return None

    async def warm(self, prompt: Prompt) -> None:
        """Nothing: the server keeps what it has read by itself."""

    async def aclose(self) -> None:
        await self._http.aclose()
        await asyncio.to_thread(self._stop)
