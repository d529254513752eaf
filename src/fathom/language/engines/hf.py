"""The engine ``hf:PATH_OR_ID``: transformers in this process, on a GPU or the CPU.

n choices of one prompt read it once and expand its cache; what was read stays for later prompts that begin alike, so
that a continuation reads nothing again but its last token. One thread owns the model (``hf_worker``); any number of
event loops may use the engine at once. Speculation is verified by one forward pass over all that was drafted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import secrets
import threading
import weakref
from collections.abc import Sequence

from fathom.errors import LimitError, PromptTooLong, UsageError
from fathom.language.draft_control import CHAINS, TREES, DraftControl, Shape
from fathom.language.drafting import DRAFTS, Drafter, Lookahead, Lookup, Questions
from fathom.language.engines.base import EngineCapability, EngineTraits, Pace, Prompt, Request, Sampling, Span
from fathom.language.engines.chat_tokens import ChatTokenizer
from fathom.language.engines.hf_batch import HFChoice
from fathom.language.engines.hf_draft import ModelDrafter
from fathom.language.engines.hf_model import HFModel
from fathom.language.engines.hf_probe import HFProbe, score
from fathom.language.engines.hf_worker import HFWorker
from fathom.language.engines.pace import Measurement, kept, machine, measure
from fathom.language.engines.threaded import ThreadedChoice, ThreadedGeneration

__all__ = ["CONTEXT", "WIDTH", "HFEngine"]

_CAPABILITIES = frozenset(
    {
        EngineCapability.LOGPROBS,
        EngineCapability.PREFIX,
        EngineCapability.TOKENS,
        EngineCapability.MANY,
        EngineCapability.SEED,
    }
)
CONTEXT = 16_384
WIDTH = 64


class HFEngine:
    """A causal language model of transformers: the directory ``name``, or that id on the model hub.

    ``context`` is how long a text may become (the model's own limit, if it is shorter), and how many tokens of ended
    texts are kept to go on from. ``max_width`` choices advance together at most; more wait their turn. ``device`` None
    takes a GPU where there is one. ``template`` replaces the chat template of the model. What a request leaves open of
    its sampling is temperature 0.7, top-p 0.95, top-k 40.

    ``draft`` says where drafts come from: ``lookup`` in the prompt and the text itself, ``siblings`` also in other
    samples of the question, the directory or id of a smaller model with the same tokens, ``off``; ``auto`` is
    siblings. How many tokens are drafted is decided by what verifying them costs and how many are accepted, and is
    often none; ``draft_length`` fixes it, for comparisons.

    *Seeds.* Choice i draws with a generator of its own, seeded ``seed + i``, one number a token, also where drafts of
    lookup are verified: they change the text no more than other shapes of the same product do, in the last bits of
    the logits. Where a model drafts, the text follows the same law but is another one.

    Raises MissingDependency, ModelFileError, DownloadError, EngineError.
    """

    def __init__(
        self,
        name: str,
        *,
        context: int = CONTEXT,
        max_width: int = WIDTH,
        device: str | None = None,
        template: str | None = None,
        draft: str = "auto",
        draft_length: int | None = None,
    ) -> None:
        for limit, value, least in (("context", context, 16), ("max_width", max_width, 1)):
            if value < least:
                raise LimitError(limit, f"{limit} must be {least} or more, not {value}")
        if draft_length is not None and draft_length < 1:
            raise LimitError("draft_length", f"draft_length must be 1 or more, not {draft_length}")
        self._model = HFModel(name, device=device)
        self._chat = ChatTokenizer(self._model, template)
        self._length = min(self._model.context or context, context)
        self._draft = None if draft in DRAFTS else HFModel(draft, device=device)
        if self._draft is not None and self._draft.words() != self._model.words():
            raise UsageError(f"{draft} cannot draft for {name}: their tokens are not the same")
        self._off = draft == "off"
        self._questions = Questions(shared=draft != "lookup")
        fixed = None if draft_length is None else Shape(draft_length)
        shapes = TREES if self._draft is None and self._model.takes_trees else CHAINS
        drafting = 0.0 if self._draft is None else self._draft.n_parameters / self._model.n_parameters
        self._control = DraftControl(shapes, guess=0.5 if self._draft is None else 0.8, drafting=drafting, fixed=fixed)
        self._measurement: Measurement | None = None
        self._measuring = threading.Lock()
        self._worker = HFWorker(
            self._model,
            width=max_width,
            limit=self._length,
            kept=context,
            lookahead=None if self._off else Lookahead(self._control, self._model.clock),
        )
        self._close = weakref.finalize(self, self._worker.close)
        self._traits = EngineTraits(
            model=name.rstrip("/").rpartition("/")[2] or name,
            context_length=self._length,
            capabilities=_CAPABILITIES,
            max_width=max_width,
            room=4 if self._model.device == "cpu" else 16,
            parameters=self._model.n_parameters,
            bytes_per_token=self._model.bytes_per_token,
            version=self._model.version,
        )

    @property
    def traits(self) -> EngineTraits:
        """``room`` is 4 on a CPU and 16 elsewhere until the pace was measured."""
        return self._traits

    @property
    def lock(self) -> threading.Lock:
        """Guards what choices have pending."""
        return self._worker.lock

    def generate(self, request: Request) -> ThreadedGeneration:
        """Raises UsageError here, and PromptTooLong on entering the block, before anything is spent."""
        sampling = request.sampling
        if request.n < 1 or request.max_tokens < 1:
            raise UsageError(f"n and max_tokens must be 1 or more, not {request.n} and {request.max_tokens}")
        if sampling.schema is not None:
            raise UsageError("this engine cannot hold its output to a schema; use an embedded model or a server")
        if sampling.logit_bias:
            raise UsageError("this engine takes no logit_bias; use an embedded model or a server")
        if sampling.presence_penalty or sampling.frequency_penalty:
            raise UsageError("this engine has no penalties of presence and frequency; leave them out")
        return ThreadedGeneration(self, request)

    async def start(self, generation: ThreadedGeneration, request: Request) -> list[HFChoice]:
        """Queue the choices of a generation."""
        prompt = self.ids(request.prompt)
        seed = secrets.randbits(31) if request.seed is None else request.seed
        question = () if self._off else tuple(self._chat.ids(Prompt(request.prompt.messages)))
        choices = [HFChoice(generation, i, prompt, request, self._model, self.lock, seed + i) for i in range(request.n)]
        for choice in choices:
            choice.drafter = None if self._off else functools.partial(self._drafter, choice, question)
        self._worker.submit(choices)
        return choices

    def _drafter(self, choice: HFChoice, question: tuple[int, ...]) -> Drafter:
        if self._draft is None:
            return Lookup(self._questions.texts(question), choice.prompt)
        sampling, size = choice.request.sampling, self._model.vocabulary.size
        return ModelDrafter(self._draft, choice.prompt, sampling, size, seed=choice.seed)

    def forget(self, choices: Sequence[ThreadedChoice]) -> None:
        """Nothing: what was closed is dropped before the next step."""

    async def count(self, prompt: Prompt) -> int:
        return len(self._chat.ids(prompt))

    async def pace(self) -> Pace:
        """Measured at first use, and kept per machine, model and version; ``traits.room`` follows from it."""
        measurement = await asyncio.to_thread(self._measured)
        return measurement.pace

    def _measured(self) -> Measurement:
        with self._measuring:
            if self._measurement is None:
                widest = min(self._traits.max_width or 1, 16)
                key = {
                    "machine": machine(),
                    "model": [self._model.name, self._model.n_parameters],
                    "library": self._model.version,
                    "settings": {"threads": self._model.torch.get_num_threads(), "max_width": widest},
                }
                measurement = kept(key, lambda: self._worker.call(lambda: self._measure(widest)).result())
                self._traits = dataclasses.replace(self._traits, room=measurement.room)
                self._measurement = measurement
                pace = measurement.pace
                self._worker.call(lambda: self._control.expect(pace.step, pace.read_seconds))
            return self._measurement

    def _measure(self, widest: int) -> Measurement:
        return measure(HFProbe(self._model), max_width=widest, threads=self._model.torch.get_num_threads())

    async def warm(self, prompt: Prompt) -> None:
        """Read a prompt ahead and keep it, until its room is needed by something more recent."""
        async with self.generate(Request(prompt, max_tokens=1, sampling=Sampling(temperature=0.0))) as generation:
            async for _ in generation:
                pass

    async def score(self, prompt: Prompt, text: str | Span) -> tuple[float, ...]:
        """Natural-log probabilities of the tokens of ``text`` as continuation of ``prompt``, by one pass over it."""
        begin = self.ids(prompt)
        span = text if isinstance(text, Span) else Span(text)
        end = list(span.tokens) or self._model.vocabulary.tokenize(span.text)
        self._check_length(len(begin) + len(end))
        if not end:
            return ()
        return await asyncio.wrap_future(self._worker.call(lambda: score(self._model, self._worker.kept, begin, end)))

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt as token ids. Raises PromptTooLong."""
        ids = self._chat.ids(prompt)
        self._check_length(len(ids))
        return ids

    def _check_length(self, tokens: int) -> None:
        if tokens >= self._length:
            raise PromptTooLong(
                f"the prompt has {tokens} tokens, and {self._traits.model} as opened here takes {self._length - 1} "
                "and one to answer with; shorten it, or open the model with a larger context"
            )

    async def aclose(self) -> None:
        """Free everything. What still runs ends with ``Finish.FAILED``. Idempotent."""
        await asyncio.to_thread(self._close)
