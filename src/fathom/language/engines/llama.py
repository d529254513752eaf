"""The embedded engine: llama.cpp in this process, on its C interface.

n choices of one prompt read it once and share its cache; a continuation given by token ids reads nothing again but
its last token; cancelling one choice frees its place at the next step, and cancelling all interrupts the step itself.
One thread owns the model (``llama_worker``); any number of event loops may use the engine at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.errors import EngineError, LimitError, UsageError
from fathom.language.draft_control import DraftControl, Shape
from fathom.language.drafting import DRAFTS, Drafter, Lookup, Questions
from fathom.language.engines import llama_c
from fathom.language.engines.base import EngineCapability, EngineTraits, Prompt, Request, Sampling, Span
from fathom.language.engines.chat_tokens import ChatTokenizer
from fathom.language.engines.in_process import CONTEXT, WIDTH, InProcessEngine, at_least
from fathom.language.engines.llama_choice import LlamaChoice, Reading
from fathom.language.engines.llama_draft import DraftModel, LlamaDrafter, check_alike, open_draft
from fathom.language.engines.llama_grammar import Grammar, GrammarCompiler
from fathom.language.engines.llama_model import MAX_WIDTH, SCORED, Context, Model
from fathom.language.engines.llama_sampling import Sampler, logprob
from fathom.language.engines.llama_store import PromptStore, fingerprint
from fathom.language.engines.llama_worker import Worker
from fathom.language.engines.pace import Measurement
from fathom.language.engines.sampling import draws_freely
from fathom.language.engines.threaded import ThreadedChoice, ThreadedGeneration
from fathom.language.engines.tool_calls import OPENING, forbidden, required
from fathom.units import parse_size

__all__ = ["LlamaEngine"]

_CAPABILITIES = frozenset(
    {
        EngineCapability.LOGPROBS,
        EngineCapability.PREFIX,
        EngineCapability.TOKENS,
        EngineCapability.MANY,
        EngineCapability.SCHEMA,
        EngineCapability.SEED,
        EngineCapability.BIAS,
    }
)
_BATCH = 512  # tokens that one call of the model takes at most


class LlamaEngine(InProcessEngine):
    """A GGUF model in this process.

    ``context`` is the size of the key-value cache in tokens, shared by everything that runs and is kept, and by
    default also the longest that one sequence may become (the model's own limit, if it is shorter). ``max_width``
    choices advance together at most; more wait their turn. ``threads`` None takes what the measurement of ``pace()``
    found best, and half of the cores before it. ``template`` replaces the chat template of the file. What a request
    leaves open of its sampling is temperature 0.7, top-p 0.95, top-k 40.

    ``draft`` says where drafts for speculation come from while one choice runs alone: ``lookup`` in the prompt and the
    text itself, ``siblings`` also in other samples of the question (``auto`` is the same), the GGUF file of a smaller
    model with the same tokens, ``off``. How many tokens are drafted is decided by what drafting and verifying them
    costs on this machine and how many are accepted; ``draft_length`` fixes it, for comparisons. ``disk`` is how much of
    what ``warm()`` reads is kept on disk over restarts, in bytes or as text such as ``256MiB``; 0 is nothing.

    *Seeds.* Choice i draws with a generator of its own, seeded ``seed + i``, one draw a token: what a choice draws
    does not depend on its neighbours. The logits it draws from do, in their last bits, because the kernels that
    multiply one row and those that multiply several round differently, and so does attention over another layout of
    the cache. The same request on an idle engine with the same history gives the same text; beside other work, or
    from a warm cache instead of a cold one, a choice may take another turn wherever two tokens are nearly tied, even
    at temperature 0. So it is with drafts, whose number depends on measured times: they keep the law, not the bits; and
    where a model drafts, what is drawn at temperatures above 0 is another text of that law.

    Raises ModelFileError on a file that is missing or damaged, EngineError when memory does not suffice, and
    ``llama_c.Unsupported`` where the C interface is not there (``open_gguf`` then takes the other way).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int = CONTEXT,
        max_width: int = WIDTH,
        threads: int | None = None,
        template: str | None = None,
        draft: str | Path = "off",
        draft_length: int | None = None,
        disk: int | str = 0,
    ) -> None:
        at_least(16, context=context)
        at_least(1, max_width=max_width, threads=threads, draft_length=draft_length)
        if max_width > MAX_WIDTH:
            raise LimitError("max_width", f"the embedded engine runs at most {MAX_WIDTH} choices together")
        if draft not in DRAFTS and not Path(draft).is_file():
            raise UsageError(f"draft is one of {', '.join(DRAFTS)}, or the file of a smaller model, not {draft!r}")
        kept_bytes = parse_size(disk)
        library = self._library = llama_c.load()
        path = Path(path)
        if draft not in DRAFTS:
            check_alike(library, path, Path(draft))
        count = threads or _half_of_the_cores()
        with contextlib.ExitStack() as undo:  # until the worker owns what is opened
            self._model = Model(library, path)
            undo.callback(self._model.free)
            if not self._model.causal:
                raise llama_c.Unsupported(f"{path} is not a plain decoder")
            chat = ChatTokenizer(self._model, template)
            made = Context(library, self._model, cells=context, width=max_width, batch=_BATCH, threads=count)
            undo.callback(made.free)
            length = min(self._model.training_context or context, context)
            self._drafts: DraftModel | None = None
            if draft not in DRAFTS:
                self._drafts = open_draft(library, Path(draft), made, cells=length, threads=count)
                undo.callback(self._drafts.free)
            self._grammars = GrammarCompiler(library, self._model)
            self._control = None if draft == "off" else self._controlled(draft_length)
            self._worker = Worker(
                library,
                self._model,
                made,
                width=max_width,
                length=length,
                control=self._control,
                drafts=self._drafts,
            )
            undo.pop_all()
        self._questions = Questions(shared=draft != "lookup")
        self._threads = threads
        self._store: PromptStore | None = None
        if kept_bytes:
            self._store = PromptStore(made, fingerprint(path, library.version), kept_bytes)
        traits = EngineTraits(
            model=path.stem,  # which says the quantisation, too
            context_length=length,
            capabilities=_CAPABILITIES | ({EngineCapability.TOOLS} if chat.knows_tools else set()),
            max_width=max_width,
            room=4,
            parameters=self._model.n_parameters,
            bytes_per_token=self._model.bytes_per_token,
            version=f"xllamacpp {library.version}",
        )
        super().__init__(chat, self._model.vocabulary, self._worker, traits)

    def _controlled(self, draft_length: int | None) -> DraftControl:
        drafting = self._drafts.model.n_parameters / self._model.n_parameters if self._drafts else 0.0
        return DraftControl(
            drafting=drafting, fixed=None if draft_length is None else Shape(min(draft_length, SCORED - 1))
        )

    @property
    def threads(self) -> int:
        """In use: what was asked for, what the measurement found best, or half of the cores before it."""
        return self._measurement.threads if self._measurement else self._threads or _half_of_the_cores()

    async def start(self, generation: ThreadedGeneration, request: Request) -> list[LlamaChoice]:
        """Queue the choices of a generation."""
        ids = self.ids(request.prompt)
        request = self._within_tools(request)
        grammar = await asyncio.to_thread(self._grammar, request)
        seed = self.seed(request)
        window = min(request.max_tokens, self._length)

        def sampler(index: int) -> Sampler:
            own = None if grammar is None else grammar.clone()
            return Sampler(
                self._library, request.sampling, self._worker.candidates, seed=seed + index, window=window, grammar=own
            )

        choices = [
            LlamaChoice(generation, i, ids, request, self._model, functools.partial(sampler, i), self.lock, seed + i)
            for i in range(request.n)
        ]
        if self._control is not None:
            question = () if self._drafts else self._chat.ids(dataclasses.replace(request.prompt, prefix=()))
            drawn = request.sampling if grammar is None and draws_freely(request.sampling) else None
            for choice in choices:
                choice.drafter = functools.partial(self._drafter, choice, question, drawn)
        self._worker.submit(Reading(ids, choices))
        return choices

    def _within_tools(self, request: Request) -> Request:
        """Where tools must not be called, the tag that opens a call is not drawn, if the model has a token for it."""
        tag = self._model.vocabulary.tokenize(OPENING) if forbidden(request.prompt.tools) else []
        if len(tag) != 1:
            return request
        biases = {**request.sampling.logit_bias, tag[0]: -math.inf}
        return dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, logit_bias=biases))

    def _grammar(self, request: Request) -> Grammar | None:
        """What the output must follow: calls that are required, a schema, or either of them."""
        tools, schema = request.prompt.tools, request.sampling.schema
        if tools is not None and not forbidden(tools) and (schema is not None or required(tools)):
            return self._grammars.compile_calls(tools, schema)
        return None if schema is None else self._grammars.compile(schema)

    def _drafter(self, choice: LlamaChoice, question: Sequence[int], drawn: Sampling | None) -> Drafter:
        if self._drafts is None:
            return Lookup(self._questions.texts(question), choice.prompt)
        return LlamaDrafter(self._drafts, choice.prompt, drawn, self._model.vocabulary.size, seed=choice.seed)

    def forget(self, choices: Sequence[ThreadedChoice]) -> None:
        """These were closed by their reader; the lock is held."""
        self._worker.forget(*choices)

    def _identity(self) -> dict[str, Any]:
        return {
            "model": [self._model.path.name, self._model.path.stat().st_size],
            "library": self._library.version,
            "settings": {"threads": self._threads},
        }

    def _measure(self, widest: int) -> Measurement:
        return self._worker.measure(max_width=widest, threads=self._threads)

    def _adopt(self, measurement: Measurement) -> None:
        """The number of threads that was found best, too."""
        self._worker.adopt(measurement)

    async def warm(self, prompt: Prompt) -> None:
        """Read a prompt ahead and keep it: of the last few that were warmed, as long as there is any other room.

        With a store on ``disk`` it is taken from there if it can, and else put there.
        """
        tokens, store = self.ids(prompt), self._store
        if store is None:
            await self._read(tokens, first_row=len(tokens), lasting=True)
        elif not await asyncio.wrap_future(self._worker.recall(tokens, store.load)):
            keep = lambda sequence: store.save(tokens, sequence)  # noqa: E731
            await self._read(tokens, first_row=len(tokens), lasting=True, keep=keep)

    async def forget_texts(self) -> None:
        """Give up what is kept of earlier texts, except what was warmed: as if nothing had been asked yet."""
        await asyncio.to_thread(self._worker.forget_texts)

    async def score(self, prompt: Prompt, text: str | Span) -> tuple[float, ...]:
        """Natural-log probabilities of the tokens of ``text`` as continuation of ``prompt``, by one pass over it."""
        begin, end = self.ids_after(prompt, text)
        tokens = begin + end
        scores: list[float] = []

        def scored(row: int, logits: NDArray[np.float32]) -> None:
            scores.append(logprob(logits, tokens[row + 1]))

        if end:
            await self._read(tokens[:-1], first_row=len(begin) - 1, on_row=scored)
        return tuple(scores)

    async def _read(
        self,
        tokens: list[int],
        *,
        first_row: int,
        lasting: bool = False,
        on_row: Callable[[int, NDArray[np.float32]], None] | None = None,
        keep: Callable[[int], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: EngineError | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def ended(error: EngineError | None) -> None:
            if error is None and keep is not None and reading.sequence is not None:
                keep(reading.sequence.id)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, error)

        reading = Reading(tokens, [], first_row=first_row, lasting=lasting, on_row=on_row, on_end=ended)
        self._worker.submit(reading)
        try:
            await done
        except asyncio.CancelledError:
            with self._worker.lock:
                reading.cancelled = True
                self._worker.forget(reading)
            raise


def _half_of_the_cores() -> int:
    return max(1, (os.cpu_count() or 2) // 2)
