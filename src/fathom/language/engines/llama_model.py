"""A GGUF model and its context, on llama.cpp's C interface, with nothing in it of scheduling.

``Model`` is what is in the file: weights, vocabulary, chat template. ``Context`` is the key-value cache and one step
of decoding over it. Neither is made for two threads at once, except for the vocabulary, which llama.cpp keeps
constant.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fathom.errors import EngineError, ModelFileError
from fathom.language.engines.llama_c import Batch, ChatMessage, Flag, Library

__all__ = ["MAX_SEQUENCES", "Context", "Model", "Row", "check_file"]

MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ; a unified cache takes any id below it

Row = tuple[int, int, int, bool]  # token, position, sequence, whether its logits are wanted


class Model:
    """The model of one GGUF file. Raises ModelFileError, saying what llama.cpp said, on a file that it cannot load."""

    def __init__(self, library: Library, path: Path) -> None:
        self._lib = library
        self.path = path
        check_file(path)
        parameters = library.llama_model_default_params()
        library.listen()
        self.handle = library.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.handle:
            raise ModelFileError(
                f"{path} could not be loaded: {library.complaints() or 'no reason given'}. The file is damaged, cut "
                "short, or of an architecture that this llama.cpp does not know; fetch it again, or try another file."
            )
        self.vocab = library.llama_model_get_vocab(self.handle)
        self.n_vocab = int(library.llama_vocab_n_tokens(self.vocab))
        self.n_parameters = int(library.llama_model_n_params(self.handle))
        self.training_context = int(library.llama_model_n_ctx_train(self.handle))
        self._pieces: dict[int, bytes] = {}

    @property
    def causal(self) -> bool:
        """Whether it is a plain decoder whose cache can be cut and shared at any position."""
        lib, handle = self._lib, self.handle
        odd = lib.llama_model_has_encoder, lib.llama_model_is_recurrent, lib.llama_model_is_hybrid
        return not any(test(handle) for test in (*odd, lib.llama_model_is_diffusion))

    @property
    def template(self) -> str | None:
        text = self._lib.llama_model_chat_template(self.handle, None)
        return text.decode(errors="replace") if text else None

    @property
    def name(self) -> str:
        return self._meta("general.name") or self.path.stem

    @property
    def bytes_per_token(self) -> int:
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

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``. Control tokens such as ``<|im_end|>`` are read as such only when ``special``."""
        if not text:
            return []
        data = text.encode("utf-8", errors="replace")  # a lone surrogate has no encoding
        room = len(data) + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self.vocab, data, len(data), ids, room, False, special)
            if count >= 0:
                return list(ids[:count])
            if -count <= room:
                raise EngineError(f"a text of {len(data)} bytes is too long to be tokenised")
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for a control token."""
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(256)
            size = self._lib.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = self._lib.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            known = self._pieces[token] = buffer.raw[: max(size, 0)]
        return known

    def ends(self, token: int) -> bool:
        """Whether the token ends the model's turn."""
        return bool(self._lib.llama_vocab_is_eog(self.vocab, token))

    def control(self, token: int) -> str | None:
        """The text of a control token; None for every other."""
        if not self._lib.llama_vocab_is_control(self.vocab, token):
            return None
        return str(self._lib.llama_vocab_get_text(self.vocab, token), "utf-8", "replace")

    @property
    def end_of_turn(self) -> int:
        turn = int(self._lib.llama_vocab_eot(self.vocab))
        return turn if turn >= 0 else int(self._lib.llama_vocab_eos(self.vocab))

    @property
    def bos(self) -> list[int]:
        """The token that begins every text, where the model wants one."""
        return [int(self._lib.llama_vocab_bos(self.vocab))] if self._lib.llama_vocab_get_add_bos(self.vocab) else []

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
            self._lib.llama_model_free(self.handle)
            self.handle = None


def check_file(path: Path) -> None:
    """Raises ModelFileError where there is no GGUF file."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}; give the path of a GGUF file") from error
    if magic != b"GGUF":
        raise ModelFileError(f"{path} is not a GGUF file: it begins with {magic!r}; give a model file in that format")


class Context:
    """A unified key-value cache of ``cells`` tokens, shared by all sequences, and the decoding over it.

    Sequences are numbers below ``MAX_SEQUENCES``. ``outputs`` bounds the rows of logits that one call gives.
    Raises EngineError when there is not enough memory.
    """

    def __init__(self, library: Library, model: Model, *, cells: int, width: int, batch: int, threads: int) -> None:
        self._lib = library
        self._model = model
        self.outputs = max(width, 32)
        self.batch = batch
        self.abort = Flag()
        parameters = library.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_batch = parameters.n_ubatch = batch
        parameters.n_seq_max = width
        parameters.n_outputs_max = self.outputs
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        library.complaints()
        self._handle = library.llama_init_from_model(model.handle, parameters)
        if not self._handle:
            needed = cells * model.bytes_per_token / 2**20
            raise EngineError(
                f"no context of {cells} tokens could be made for {model.path.name} ({library.complaints()}); it needs "
                f"{needed:.0f} MiB for its cache alone: free some memory, or give a smaller context"
            )
        self.cells = int(library.llama_n_ctx(self._handle))
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
        return np.ctypeslib.as_array(pointer, shape=(self._model.n_vocab,))

    def copy(self, source: int, target: int, end: int) -> None:
        """Let sequence ``target`` begin with the first ``end`` tokens of ``source``, without copying any data."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def cut(self, sequence: int, length: int = 0) -> None:
        """Keep the first ``length`` tokens of a sequence only."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def set_threads(self, threads: int) -> None:
        self._lib.llama_set_n_threads(self._handle, threads, threads)

    def free(self) -> None:
        if self._handle:
            self._lib.llama_free(self._handle)
            self._handle = None
