"""The thread that owns the model: continuous batching over one key-value cache.

Each step advances every running choice by one token and, beside them, reads a bounded piece of the prompts that are
still to be read, so that a long prompt holds nobody up. The n choices of a request share one reading; a choice that
was crowded out of a full cache is read again later and goes on where it was. Cancelled work is dropped before the
next step, and a step that has become useless altogether is interrupted in the middle.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from fathom.errors import EngineError, FathomError
from fathom.language.draft_control import DraftControl, cpu_clock
from fathom.language.drafting import Lookahead
from fathom.language.engines.base import Sampling
from fathom.language.engines.llama_c import Library
from fathom.language.engines.llama_cache import CachedSequence, SequenceCache
from fathom.language.engines.llama_choice import LlamaChoice, Reading
from fathom.language.engines.llama_draft import DraftModel
from fathom.language.engines.llama_model import SCORED, Context, Model, Row
from fathom.language.engines.llama_probe import LlamaProbe
from fathom.language.engines.llama_sampling import Candidates, Sampler
from fathom.language.engines.model_thread import ModelThread
from fathom.language.engines.pace import Measurement, measure
from fathom.language.engines.threaded import Listener, ThreadedChoice
from fathom.language.speculative import Draft

__all__ = ["Worker"]

_ALONE, _BESIDE = (64, 512), (16, 128)  # prompt tokens per step, at least and at most; beside others that generate
_ALONE_SECONDS, _BESIDE_SECONDS = 1.0, 0.25  # that reading them may take: so long does a newcomer wait, or a neighbour
_HEADROOM = 16  # free cells that a choice should find when it begins
_NO_DRAFT = Draft()


class Worker(ModelThread):
    """Runs the choices given to it, at most ``width`` at a time, until ``close()``."""

    engine = "the embedded engine"

    def __init__(
        self,
        library: Library,
        model: Model,
        context: Context,
        *,
        width: int,
        length: int,
        control: DraftControl | None = None,
        drafts: DraftModel | None = None,
    ) -> None:
        super().__init__("fathom-llama")
        self._library, self._model, self._context = library, model, context
        self._width, self._length = width, length
        self._cache = SequenceCache(context, context.cells, context.sequences)
        self.candidates = Candidates(model.vocabulary.size)
        self._waiting: deque[Reading] = deque()
        self._reading: list[Reading] = []
        self._running: list[LlamaChoice] = []
        self._in_step: set[ThreadedChoice | Reading] | None = None  # who waits for the step under way
        self._touched: set[Listener] = set()
        self._alone, self._beside = _ALONE[0], _BESIDE[0]
        self._clock = cpu_clock()
        self._control, self._drafts = control, drafts
        self._lookahead = None if control is None else Lookahead(control, self._clock)
        self._draft = _NO_DRAFT  # of the only choice that runs, to be verified in the step
        self._looked = False  # whether one was thought of
        self._crowded = False  # something had to go since a choice last came to its end
        self.start()

    # what other threads call

    def submit(self, reading: Reading) -> None:
        """Queue a text to be read, and the choices that go on from it. Raises EngineError on a closed engine."""
        self.call(lambda: self._waiting.append(reading))

    def measure(self, *, max_width: int, threads: int | None) -> Measurement:
        """Time the model between two steps; blocks. Raises EngineError when it is closed, or too busy."""

        def job() -> Measurement:
            sampler = Sampler(self._library, Sampling(), self.candidates, seed=0, window=0)
            try:
                return measure(LlamaProbe(self._context, self._cache, sampler), max_width=max_width, threads=threads)
            finally:
                sampler.free()

        return self.call(job).result()

    def adopt(self, measurement: Measurement) -> None:
        """Use the threads that were found best, and read prompts in pieces that take a bearable time."""

        def job() -> None:
            if self._control is not None:
                self._control.expect(measurement.pace.step, measurement.pace.read_seconds)
            self._context.set_threads(measurement.threads)
            if self._drafts is not None:
                self._drafts.context.set_threads(measurement.threads)
            self._alone = _within(_ALONE, _ALONE_SECONDS / measurement.pace.read_seconds)
            self._beside = _within(_BESIDE, _BESIDE_SECONDS / measurement.pace.read_seconds)

        self.call(job)

    def recall(self, tokens: list[int], load: Callable[[list[int], int], bool]) -> Future[bool]:
        """Have ``load(tokens, sequence)`` put a text into the cache, unless all of it is there already, and pin it."""

        def job() -> bool:
            _, known = self._cache.longest(tokens)
            there = known == len(tokens)
            sequence = self._cache.begin(tokens if there else [], len(tokens) if there else 0)
            if sequence is None:
                return there
            while not there and self._cache.free < len(tokens) and self._cache.evict():
                pass
            if not there and self._cache.free >= len(tokens) and load(tokens, sequence.id):
                self._cache.extend(sequence, tokens)
            if len(sequence) < len(tokens):
                self._cache.drop(sequence)
                return False
            self._cache.keep(sequence, pinned=True)
            return True

        return self.call(job)

    def forget_texts(self) -> None:
        """Give up what is kept of texts that ended, except what was pinned; blocks."""

        def job() -> None:
            self._reap()
            self._cache.forget()

        self.call(job).result()

    def forget(self, *owners: ThreadedChoice | Reading) -> None:
        """These were cancelled (the lock is held): interrupt the step if nobody else waits for it."""
        if self._in_step is not None:
            self._in_step.difference_update(owners)
            if not self._in_step:
                self._context.abort.set()
        self._changed.notify()

    # the thread

    def interrupt(self) -> None:
        self._context.abort.set()

    def end(self, error: EngineError) -> None:
        self._fail((*self._waiting, *self._reading), self._running, error)
        if self._drafts is not None:
            self._drafts.free()
        self._context.free()
        self._model.free()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._reading or self._running)

    def step(self) -> None:
        """One round: every choice by a token, and a piece of what is being read."""
        self._reap()  # what came to its end in the step before, too
        self._admit()
        began = self._clock()
        self._looked, self._draft = False, _NO_DRAFT
        if self._lookahead is not None:
            self._draft = self._ahead(self._lookahead)
        rows, spans = self._plan()
        if rows:
            status = self._decode(rows)
            if status == 0:
                self._take(spans, began)
            else:
                self._recover(status)
        self._flush()

    def _reap(self) -> None:
        """Drop what was cancelled, or is not worth beginning any more; what was read stays in the cache for others."""
        for choice in [c for c in self._running if c.closed]:
            self._running.remove(choice)
            self._end(choice)
        for reading in [r for r in self._reading if not r.wanted]:
            self._reading.remove(reading)
            self._release(reading)
        now = time.monotonic()
        for choice in [c for r in self._waiting for c in r.choices]:
            if choice.late(now):
                self._touched.add(choice.listener)
        for reading in [r for r in self._waiting if not r.wanted]:
            self._waiting.remove(reading)
            self._release(reading)

    def _release(self, reading: Reading) -> None:
        if reading.sequence is not None:
            self._cache.keep(reading.sequence)
        for choice in reading.choices:
            self._end(choice)

    def _admit(self) -> None:
        """Let waiting texts begin, in order, as far as width and cache allow."""
        while self._waiting:
            reading = self._waiting[0]
            room = self._width - len(self._running) - sum(len(r.choices) or 1 for r in self._reading)
            live = [c for c in reading.choices if not c.closed]
            busy = bool(self._running or self._reading)
            if room <= 0 or (busy and self._crowded) or self._soon(reading.tokens):
                return
            now, later = live[:room], live[room:]
            sequence = self._begin(reading, len(now) or 1, force=not busy)
            if sequence is None:
                return
            self._waiting.popleft()
            if later:
                self._waiting.appendleft(Reading(reading.tokens, later))
            reading.choices, reading.sequence = now, sequence
            self._reading.append(reading)
            for choice in now:
                choice.account(len(reading.tokens), len(sequence), first=choice is now[0])

    def _begin(self, reading: Reading, width: int, *, force: bool) -> CachedSequence | None:
        """Its sequence with what the cache has of it; None when it has to wait for room."""
        sequence = self._cache.begin(reading.tokens, min(reading.first_row, len(reading.tokens) - 1))
        if sequence is None:
            return None
        needed = len(reading.tokens) - len(sequence) + width * _HEADROOM
        while self._cache.free < needed and self._cache.evict():
            pass
        if self._cache.free < needed and not force:
            self._cache.keep(sequence)
            return None
        return sequence

    def _soon(self, tokens: list[int]) -> bool:
        """Whether a text under way will shortly have read much more of ``tokens`` than the cache holds now."""
        _, cached = self._cache.longest(tokens)
        return any(r.sequence is not None and _shared(r.tokens, tokens, cached) for r in self._reading)

    def _ahead(self, lookahead: Lookahead) -> Draft:
        """What to verify in the next step, if a choice runs alone; of several, the step is wide enough without."""
        if self._reading or len(self._running) != 1:
            return _NO_DRAFT
        (choice,) = self._running
        assert choice.sequence is not None
        if choice.line is None:
            return _NO_DRAFT
        left = choice.request.max_tokens - len(choice.generated)
        most = min(left, self._length - len(choice.sequence), self._cache.free) - 1
        self._looked = True
        with self._waited_for() as wanted:
            return lookahead.draft([choice.line], most)[0] if wanted else _NO_DRAFT

    def _plan(self) -> tuple[list[Row], list[tuple[LlamaChoice | Reading, int, int]]]:
        """The rows of the next step, and whose they are: (owner, first row, end row)."""
        while True:
            rows: list[Row] = []
            spans: list[tuple[LlamaChoice | Reading, int, int]] = []
            for choice in self._running:
                assert choice.sequence is not None
                begin = len(rows)
                for token in (choice.last, *self._draft.tokens):
                    rows.append((token, len(choice.sequence) + len(rows) - begin, choice.sequence.id, True))
                spans.append((choice, begin, len(rows)))
            most = min(self._context.batch, len(rows) + self._beside if rows else self._alone)
            scored = SCORED
            for reading in self._reading:
                sequence = reading.sequence
                assert sequence is not None
                begin, start = len(rows), len(sequence)
                for position in range(start, min(len(reading.tokens), start + max(0, most - begin))):
                    wanted = position >= reading.first_row
                    if wanted and reading.on_row is not None:
                        if not scored:
                            break
                        scored -= 1
                    rows.append((reading.tokens[position], position, sequence.id, wanted))
                if len(rows) > begin:
                    spans.append((reading, begin, len(rows)))
            if len(rows) <= self._cache.free or not self._crowd_out():
                return rows, spans

    def _crowd_out(self) -> bool:
        """Make room: a kept sequence, or else the youngest that is under way, goes and waits to be read again."""
        if self._cache.evict():
            return True
        if len(self._running) + len(self._reading) <= 1:
            return False
        self._crowded = True
        if self._reading:
            reading = self._reading.pop()
            assert reading.sequence is not None
            self._cache.drop(reading.sequence)
            reading.sequence = None
            self._waiting.appendleft(reading)
        else:
            choice = self._running.pop()
            assert choice.sequence is not None
            self._cache.drop(choice.sequence)
            choice.sequence = None
            self._waiting.appendleft(Reading([*choice.prompt, *choice.generated], [choice]))
        return True

    def _decode(self, rows: list[Row]) -> int:
        with self._waited_for() as wanted:
            return self._context.decode(rows) if wanted else 2

    @contextlib.contextmanager
    def _waited_for(self) -> Iterator[bool]:
        """Whether anybody waits for what is computed within; as soon as nobody does any more it is interrupted."""
        with self.lock:
            owners: set[ThreadedChoice | Reading] = {c for c in self._running if not c.closed}
            for reading in self._reading:
                owners.update([c for c in reading.choices if not c.closed] or ([reading] if reading.wanted else []))
            wanted = bool(owners) and not self._closing
            self._in_step = owners if wanted else None
        try:
            yield wanted
        finally:
            with self.lock:
                self._in_step = None
                if not self._closing:
                    self._context.abort.clear()

    def _take(self, spans: list[tuple[LlamaChoice | Reading, int, int]], began: float) -> None:
        """Account for a step that was done, and draw the next tokens."""
        for owner, begin, end in spans:
            if isinstance(owner, Reading):
                self._read(owner, begin, end)
                continue
            made = self._draw(owner, begin, self._draft, fed=True)
            if owner.line is None or self._control is None or not made:
                continue
            if self._lookahead is not None and self._looked:
                self._lookahead.settle([owner.line], [made], self._clock() - began)
            else:
                owner.line.grow(made, self._control)

    def _read(self, reading: Reading, begin: int, end: int) -> None:
        sequence = reading.sequence
        assert sequence is not None
        start = len(sequence)
        self._cache.extend(sequence, reading.tokens[start : start + end - begin])
        if reading.on_row is not None:
            for row in range(max(begin, begin + reading.first_row - start), end):
                reading.on_row(start + row - begin, self._context.logits(row))
            reading.first_row = max(reading.first_row, len(sequence))  # these are done, should it be crowded out
        if len(sequence) < len(reading.tokens):
            return
        self._reading.remove(reading)
        if reading.on_end is not None:
            reading.on_end(None)
        live = [c for c in reading.choices if not c.closed]
        for choice in live[1:]:
            fork = self._cache.begin(reading.tokens, len(reading.tokens))
            if fork is None:  # every sequence is taken by a running one
                self._waiting.appendleft(Reading(reading.tokens, [choice]))
                continue
            choice.sequence = fork
        if live:
            live[0].sequence = sequence
        else:
            self._cache.keep(sequence, pinned=reading.lasting)
        for choice in live:
            if choice.sequence is not None:
                self._running.append(choice)
                made = self._draw(choice, end - 1)
                if choice.line is not None:
                    choice.line.drafter.extend(made)

    def _draw(self, choice: LlamaChoice, row: int, draft: Draft = _NO_DRAFT, *, fed: bool = False) -> list[int]:
        """Give a choice the tokens drawn from the logits at ``row``, and at those of its draft behind it.

        ``fed`` tells that its last token was in the step and has to be accounted for.
        """
        sequence = choice.sequence
        assert sequence is not None
        self._touched.add(choice.listener)
        try:
            made = choice.draw(lambda place: self._context.logits(row + place), draft)
        except FathomError as error:  # a grammar that cannot be made costs this choice alone
            choice.fail(error if isinstance(error, EngineError) else EngineError(str(error)))
            made = []
        if fed:
            self._cache.extend(sequence, [choice.last])
        if draft.tokens:
            choice.drafted(max(0, len(made) - 1), len(draft) - max(0, len(made) - 1))
        for place, token in enumerate(made):
            if place:
                self._cache.extend(sequence, [choice.last])
            choice.advance(token, self._context.logits(row + place), self._length - len(sequence))
            if choice.closed:
                break
        if draft.tokens:
            self._cache.restore(sequence)
        return made

    def _end(self, choice: LlamaChoice) -> None:
        self._alone, self._beside = _ALONE[0], _BESIDE[0]
        self._crowded = False
        choice.release()
        if choice.sequence is not None:
            self._cache.keep(choice.sequence)
            choice.sequence = None

    def _recover(self, status: int) -> None:
        """After a step that was not done: cut the cache back to what is on the account; fail what cannot go on."""
        under_way = [c.sequence for c in self._running] + [r.sequence for r in self._reading]
        for sequence in under_way:
            if sequence is not None:
                self._cache.restore(sequence)
        if status == 2 or (status == 1 and self._crowd_out()):
            return
        said = self._library.complaints() or f"status {status}"
        self._fail(self._reading, self._running, EngineError(f"llama.cpp could not decode: {said}"))

    def _fail(
        self, readings: list[Reading] | tuple[Reading, ...], running: list[LlamaChoice], error: EngineError
    ) -> None:
        for reading in list(readings):
            if reading.sequence is not None:
                self._cache.drop(reading.sequence)
            if reading.on_end is not None:
                reading.on_end(error)
        for choice in [*running, *(c for r in readings for c in r.choices)]:
            choice.fail(error)
            self._touched.add(choice.listener)
            self._end(choice)
        self._reading, self._running = [], []
        self._flush()

    def _flush(self) -> None:
        """Wake the readers of whatever is new, once each."""
        touched, self._touched = self._touched, set()
        for listener in touched:
            listener.notify()


def _within(bounds: tuple[int, int], value: float) -> int:
    return int(max(bounds[0], min(bounds[1], value)))


def _shared(a: list[int], b: list[int], cached: int) -> bool:
    """Whether two texts have a good deal more in common than ``cached`` tokens."""
    end = cached + _HEADROOM
    return len(a) >= end and len(b) >= end and a[:end] == b[:end]
