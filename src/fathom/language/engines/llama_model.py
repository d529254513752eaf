"""A GGUF model and its context, on llama.cpp's C interface, with nothing in it of scheduling.

``Model`` is what is in the file: weights and chat template (``llama_vocabulary`` has its tokens). ``Context`` is the
key-value cache and one step of decoding over it. Neither is made for two threads at once.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fathom.errors import EngineError, ModelFileError
from fathom.language.engines.llama_c import Batch, ChatMessage, Flag, Library, ModelParams
from fathom.language.engines.llama_vocabulary import Vocabulary

__all__ = ["MAX_WIDTH", "SCORED", "Context", "Model", "Row", "check_file", "words"]

MAX_WIDTH = 192
SCORED = 32  # rows of logits for texts that are scored
KEPT = 64  # ended sequences that are kept beside those that run (LLAMA_MAX_SEQ is 256)

Row = tuple[int, int, int, bool]  # token, position, sequence, whether its logits are wanted


class Model:
    """The model of one GGUF file. Raises ModelFileError, saying what llama.cpp said, on a file that it cannot load."""

    def __init__(self, library: Library, path: Path) -> None:
        self._lib = library
        self.path = path
        self.handle: int | None = _load(library, path, library.llama_model_default_params())
        self.vocabulary = Vocabulary(library, library.llama_model_get_vocab(self.handle))
        self.n_parameters = int(library.llama_model_n_params(self.handle))
        self.training_context = int(library.llama_model_n_ctx_train(self.handle))
        self.bytes_per_token = self._bytes_per_token()
        template = library.llama_model_chat_template(self.handle, None)
        self.template: str | None = template.decode(errors="replace") if template else None

    @property
    def named_tokens(self) -> dict[str, str]:
        """What chat templates call ``bos_token``, if it is to begin every text, and ``eos_token``."""
        spell = self.vocabulary.control
        begin = "".join(spell(token) or "" for token in self.vocabulary.bos)
        return {"bos_token": begin, "eos_token": spell(self.vocabulary.end_of_turn) or ""}

    @property
    def causal(self) -> bool:
        """Whether it is a plain decoder whose cache can be cut and shared at any position."""
        lib, handle = self._lib, self.handle
        odd = lib.llama_model_has_encoder, lib.llama_model_is_recurrent, lib.llama_model_is_hybrid
        return not any(test(handle) for test in (*odd, lib.llama_model_is_diffusion))

    def _bytes_per_token(self) -> int:
        """Of the key-value cache, which holds 16-bit numbers."""
        architecture = self._meta("general.architecture")
        heads = int(self._meta(f"{architecture}.attention.head_count") or 1)
        shared = int(self._meta(f"{architecture}.attention.head_count_kv") or heads)
        width = int(self._lib.llama_model_n_embd(self.handle)) // heads
        key = int(self._meta(f"{architecture}.attention.key_length") or width)
        value = int(self._meta(f"{architecture}.attention.value_length") or width)
        return int(self._lib.llama_model_n_layer(self.handle)) * shared * (key + value) * 2

    def _meta(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(512)
        size = self._lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if size > 0 else ""

    def render(self, template: str, messages: Sequence[tuple[str, str]]) -> str:
        """The chat as text, up to where the assistant begins. Raises EngineError on a template of no known family."""
        chat = (ChatMessage * len(messages))(*(ChatMessage(r.encode(), c.encode()) for r, c in messages))
        room = 1024 + 2 * sum(len(c.encode()) for _, c in messages)
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = self._lib.llama_chat_apply_template(template.encode(), chat, len(messages), True, buffer, room)
            if size < 0:
                raise EngineError(
                    f"the chat template of {self.path.name} is of no family that llama.cpp knows; "
                    "name one that fits the model, e.g. template='chatml'"
                )
            if size <= room:
                return buffer.raw[:size].decode()
            room = size

    def free(self) -> None:
        if self.handle:
            self.vocabulary.retire()
            self._lib.llama_model_free(self.handle)
            self.handle = None


def words(library: Library, path: Path) -> list[bytes]:
    """The tokens of a GGUF file as it spells them, by id; its weights are not loaded. Raises ModelFileError."""
    parameters = library.llama_model_default_params()
    parameters.vocab_only = True
    model = _load(library, path, parameters)
    try:
        vocabulary = library.llama_model_get_vocab(model)
        size = library.llama_vocab_n_tokens(vocabulary)
        return [library.llama_vocab_get_text(vocabulary, token) for token in range(size)]
    finally:
        library.llama_model_free(model)


def _load(library: Library, path: Path, parameters: ModelParams) -> int:
    check_file(path)
    library.listen()
    handle: int | None = library.llama_model_load_from_file(str(path).encode(), parameters)
    if not handle:
        raise ModelFileError(
            f"{path} could not be loaded: {library.complaints() or 'no reason given'}. The file is damaged, cut "
            "short, or of an architecture that this llama.cpp does not know; fetch it again, or try another file."
        )
    return handle


def check_file(path: Path) -> None:
    """Raises ModelFileError where there is no GGUF file."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}; give the path of a GGUF file") from error
    if magic != b"GGUF":
        raise ModelFileError(f"{path} is not a GGUF file: it begins with {magic!r}; give a model file in that format")


def _memory() -> float:
    """Bytes of this machine's memory. The cache is written over when it is made, and nobody refuses it politely."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # a platform that does not tell
        return math.inf


class Context:
    """A unified key-value cache of ``cells`` tokens, shared by all sequences, and the decoding over it.

    ``width`` of its ``sequences`` advance together at most, and ``kept`` more hold what ended; each of them costs a row
    of logits. One call gives ``width`` rows of logits, and ``SCORED`` more. ``beside`` is another context that stays:
    both are interrupted together, and have to fit into memory.
    Raises EngineError when there is not enough memory.
    """

    def __init__(
        self,
        library: Library,
        model: Model,
        *,
        cells: int,
        width: int,
        batch: int,
        threads: int,
        kept: int = KEPT,
        beside: Context | None = None,
    ) -> None:
        self._lib = library
        self._model = model
        self.sequences = width + kept
        needed = cells * model.bytes_per_token
        self.bytes: int = needed + (beside.bytes if beside else 0)
        if self.bytes > _memory():
            raise EngineError(
                f"a context of {cells} tokens needs {needed / 2**30:.1f} GiB for {model.path.name}, more than this "
                "machine has; give a smaller context"
            )
        self.abort: Flag = beside.abort if beside else Flag()
        parameters = library.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_batch = parameters.n_ubatch = batch
        parameters.n_seq_max = self.sequences
        parameters.n_outputs_max = self.sequences  # it must not be less, and is more than is used
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        library.complaints()
        self._handle = library.llama_init_from_model(model.handle, parameters)
        if not self._handle:
            raise EngineError(
                f"no context of {cells} tokens could be made for {model.path.name} ({library.complaints()}); it needs "
                f"{needed / 2**20:.0f} MiB for its cache alone: free some memory, or give a smaller context"
            )
        self.cells = cells  # it rounds up to multiples of 256, of which no use is made
        self.batch = min(batch, self.cells)
        self._memory = library.llama_get_memory(self._handle)
        library.llama_set_abort_callback(
            self._handle, ctypes.cast(library.ggml_is_empty, ctypes.c_void_p), self.abort.address
        )
        self._allocate(batch)

    def _allocate(self, size: int) -> None:
        self._token = (ctypes.c_int32 * size)()
        self._pos = (ctypes.c_int32 * size)()
        self._ids = (ctypes.c_int32 * size)()
        self._logits = (ctypes.c_int8 * size)()
        one = (ctypes.c_int32 * size)(*([1] * size))
        places = (ctypes.POINTER(ctypes.c_int32) * size)()
        for i in range(size):
            places[i] = ctypes.cast(ctypes.addressof(self._ids) + 4 * i, ctypes.POINTER(ctypes.c_int32))
        self._batch = Batch(0, self._token, None, self._pos, one, places, self._logits)

    def decode(self, rows: Sequence[Row]) -> int:
        """Advance by ``rows``; returns llama_decode's status: 0 done, 1 no room, 2 interrupted, negative failed.

        Except after 0 and 1, part of the rows may lie in the cache; the caller cuts its sequences back.
        """
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self._token[i], self._pos[i], self._ids[i], self._logits[i] = token, position, sequence, wanted
        self._batch.n_tokens = len(rows)
        return int(self._lib.llama_decode(self._handle, self._batch))

    def logits(self, row: int) -> NDArray[np.float32]:
        """The logits after row ``row`` of the last decode, shape (vocabulary,): a view, valid until the next."""
        pointer = self._lib.llama_get_logits_ith(self._handle, row)
        return np.ctypeslib.as_array(pointer, shape=(self._model.vocabulary.size,))

    def copy(self, source: int, target: int, end: int) -> None:
        """Let sequence ``target`` begin with the first ``end`` tokens of ``source``, without copying any data."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def cut(self, sequence: int, length: int = 0) -> None:
        """Keep the first ``length`` tokens of a sequence only."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def save(self, sequence: int, tokens: Sequence[int], path: Path) -> bool:
        """Write what the cache holds of a sequence to a file, with its tokens."""
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        written = self._lib.llama_state_seq_save_file(self._handle, os.fsencode(path), sequence, ids, len(tokens))
        return bool(written)

    def load(self, sequence: int, most: int, path: Path) -> list[int]:
        """Read such a file into an empty sequence; gives its tokens, at most ``most``, or none if it was refused."""
        ids, count = (ctypes.c_int32 * most)(), ctypes.c_size_t()
        read = self._lib.llama_state_seq_load_file(
            self._handle, os.fsencode(path), sequence, ids, most, ctypes.byref(count)
        )
        return list(ids[: count.value]) if read else []

    def set_threads(self, threads: int) -> None:
        self._lib.llama_set_n_threads(self._handle, threads, threads)

    def free(self) -> None:
        if self._handle:
            self._lib.llama_free(self._handle)
            self._handle = None
