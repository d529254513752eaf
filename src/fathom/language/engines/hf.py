"""The engine ``hf:PATH_OR_ID``: transformers in this process, on a GPU or the CPU.

n choices of one prompt read it once and expand its cache; what was read stays for later prompts that begin alike, so
that a continuation reads nothing again but its last token. One thread owns the model (``hf_worker``); any number of
event loops may use the engine at once. Speculation is verified by one forward pass over all that was drafted.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

from fathom.errors import UsageError
from fathom.language.draft_control import CHAINS, TREES, DraftControl, Shape
from fathom.language.drafting import DRAFTS, Drafter, Lookahead, Lookup, Questions
from fathom.language.engines.base import EngineCapability, EngineTraits, Prompt, Request, Sampling, Span
from fathom.language.engines.chat_tokens import ChatTokenizer
from fathom.language.engines.hf_batch import HFChoice
from fathom.language.engines.hf_draft import HFDrafter
from fathom.language.engines.hf_model import HFModel
from fathom.language.engines.hf_probe import HFProbe, score
from fathom.language.engines.hf_worker import HFWorker
from fathom.language.engines.in_process import CONTEXT, WIDTH, InProcessEngine, at_least
from fathom.language.engines.pace import Measurement, measure
from fathom.language.engines.threaded import ThreadedChoice, ThreadedGeneration
from fathom.language.engines.tool_calls import required

__all__ = ["HFEngine"]

_CAPABILITIES = frozenset(
    {
        EngineCapability.LOGPROBS,
        EngineCapability.PREFIX,
        EngineCapability.TOKENS,
        EngineCapability.MANY,
        EngineCapability.SEED,
    }
)


class HFEngine(InProcessEngine):
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
        at_least(16, context=context)
        at_least(1, max_width=max_width, draft_length=draft_length)
        self._model = HFModel(name, device=device)
        chat = ChatTokenizer(self._model, template)
        length = min(self._model.context or context, context)
        self._draft = None if draft in DRAFTS else HFModel(draft, device=device)
        if self._draft is not None and self._draft.words() != self._model.words():
            raise UsageError(f"{draft} cannot draft for {name}: their tokens are not the same")
        self._off = draft == "off"
        self._questions = Questions(shared=draft != "lookup")
        fixed = None if draft_length is None else Shape(draft_length)
        shapes = TREES if self._draft is None and self._model.takes_trees else CHAINS
        drafting = 0.0 if self._draft is None else self._draft.n_parameters / self._model.n_parameters
        self._control = DraftControl(shapes, drafting=drafting, fixed=fixed)
        self._worker = HFWorker(
            self._model,
            width=max_width,
            limit=length,
            kept=context,
            lookahead=None if self._off else Lookahead(self._control, self._model.clock),
        )
        traits = EngineTraits(
            model=name.rstrip("/").rpartition("/")[2] or name,
            context_length=length,
            capabilities=_CAPABILITIES | ({EngineCapability.TOOLS} if chat.knows_tools else set()),
            max_width=max_width,
            room=4 if self._model.device == "cpu" else 16,
            parameters=self._model.n_parameters,
            bytes_per_token=self._model.bytes_per_token,
            version=self._model.version,
        )
        super().__init__(chat, self._model.vocabulary, self._worker, traits)

    def generate(self, request: Request) -> ThreadedGeneration:
        """See ``InProcessEngine``; raises UsageError as well for what this engine cannot do."""
        sampling = request.sampling
        if sampling.schema is not None:
            raise UsageError("this engine cannot hold its output to a schema; use an embedded model or a server")
        if sampling.logit_bias:
            raise UsageError("this engine takes no logit_bias; use an embedded model or a server")
        if sampling.presence_penalty or sampling.frequency_penalty:
            raise UsageError("this engine has no penalties of presence and frequency; leave them out")
        if required(request.prompt.tools):
            raise UsageError("this engine cannot hold its output to a call; leave tool_choice at auto")
        return super().generate(request)

    async def start(self, generation: ThreadedGeneration, request: Request) -> list[HFChoice]:
        """Queue the choices of a generation."""
        prompt = self.ids(request.prompt)
        seed = self.seed(request)
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
        return HFDrafter(self._draft, choice.prompt, sampling, size, seed=choice.seed)

    def forget(self, choices: Sequence[ThreadedChoice]) -> None:
        """Nothing: what was closed is dropped before the next step."""

    def _identity(self) -> dict[str, Any]:
        return {
            "model": [self._model.name, self._model.n_parameters],
            "library": self._model.version,
            "settings": {"threads": self._model.torch.get_num_threads()},
        }

    def _measure(self, widest: int) -> Measurement:
        threads = self._model.torch.get_num_threads()
        return self._worker.call(lambda: measure(HFProbe(self._model), max_width=widest, threads=threads)).result()

    def _adopt(self, measurement: Measurement) -> None:
        pace = measurement.pace
        self._worker.call(lambda: self._control.expect(pace.step, pace.read_seconds))

    async def warm(self, prompt: Prompt) -> None:
        """Read a prompt ahead and keep it, as one of the last few that were warmed."""
        async with self.generate(Request(prompt, max_tokens=1, sampling=Sampling(temperature=0.0))) as generation:
            async for _ in generation:
                pass
        tokens = self.ids(prompt)
        await asyncio.wrap_future(self._worker.call(lambda: self._worker.kept.pin(tokens)))

    async def score(self, prompt: Prompt, text: str | Span) -> tuple[float, ...]:
        """Natural-log probabilities of the tokens of ``text`` as continuation of ``prompt``, by one pass over it."""
        begin, end = self.ids_after(prompt, text)
        if not end:
            return ()
        return await asyncio.wrap_future(self._worker.call(lambda: score(self._model, self._worker.kept, begin, end)))
