"""The C interface of llama.cpp, as far as the embedded engine needs it, bound with ctypes.

The package ``xllamacpp`` is one shared library that exports the whole of ``llama.h`` on Linux. Structures passed by
value have no version of their own, so the binding is pinned: ``load()`` accepts only releases whose header was read
for this file, compares the defaults that the library fills in with those of that header, and otherwise raises
``Unsupported``.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
from collections import deque
from collections.abc import Mapping
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int8,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, ClassVar

from fathom.errors import EngineError, MissingDependency

__all__ = [
    "SUPPORTED",
    "Batch",
    "ChatMessage",
    "ContextParams",
    "Flag",
    "Library",
    "ModelParams",
    "Unsupported",
    "load",
]

SUPPORTED = frozenset({"2026.10.11549"})


class Unsupported(Exception):
    """The installed library does not export the C interface that this file describes. Never leaves the engine."""


class ModelParams(Structure):
    """``llama_model_params``."""

    _fields_: ClassVar = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    ]


class ContextParams(Structure):
    """``llama_context_params``."""

    _fields_: ClassVar = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


class Batch(Structure):
    """``llama_batch``: what one call of ``llama_decode`` advances."""

    _fields_: ClassVar = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


class ChatMessage(Structure):
    """``llama_chat_message``."""

    _fields_: ClassVar = [("role", c_char_p), ("content", c_char_p)]


class TokenData(Structure):
    """``llama_token_data``."""

    _fields_: ClassVar = [("id", c_int32), ("logit", c_float), ("p", c_float)]


class TokenDataArray(Structure):
    """``llama_token_data_array``."""

    _fields_: ClassVar = [
        ("data", POINTER(TokenData)),
        ("size", c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", c_bool),
    ]


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)

# name: (result, arguments), as in llama.h
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (c_void_p, c_void_p)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, ModelParams)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_n_ctx_train": (c_int32, (c_void_p,)),
    "llama_model_n_embd": (c_int32, (c_void_p,)),
    "llama_model_n_layer": (c_int32, (c_void_p,)),
    "llama_model_n_params": (c_uint64, (c_void_p,)),
    "llama_model_size": (c_uint64, (c_void_p,)),
    "llama_model_has_encoder": (c_bool, (c_void_p,)),
    "llama_model_has_decoder": (c_bool, (c_void_p,)),
    "llama_model_is_recurrent": (c_bool, (c_void_p,)),
    "llama_model_is_hybrid": (c_bool, (c_void_p,)),
    "llama_model_is_diffusion": (c_bool, (c_void_p,)),
    "llama_model_meta_val_str": (c_int32, (c_void_p, c_char_p, c_char_p, c_size_t)),
    "llama_model_chat_template": (c_char_p, (c_void_p, c_char_p)),
    "llama_chat_apply_template": (c_int32, (c_char_p, POINTER(ChatMessage), c_size_t, c_bool, c_char_p, c_int32)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_get_text": (c_char_p, (c_void_p, c_int32)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_vocab_is_control": (c_bool, (c_void_p, c_int32)),
    "llama_vocab_get_add_bos": (c_bool, (c_void_p,)),
    "llama_vocab_eot": (c_int32, (c_void_p,)),
    "llama_vocab_eos": (c_int32, (c_void_p,)),
    "llama_vocab_bos": (c_int32, (c_void_p,)),
    "llama_tokenize": (c_int32, (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool)),
    "llama_token_to_piece": (c_int32, (c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_memory_seq_pos_max": (c_int32, (c_void_p, c_int32)),
    "llama_state_seq_save_file": (c_size_t, (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_size_t)),
    "llama_state_seq_load_file": (
        c_size_t,
        (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_size_t, POINTER(c_size_t)),
    ),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_set_n_threads": (None, (c_void_p, c_int32, c_int32)),
    "llama_set_abort_callback": (None, (c_void_p, c_void_p, c_void_p)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "llama_sampler_chain_init": (c_void_p, (c_bool,)),
    "llama_sampler_chain_add": (None, (c_void_p, c_void_p)),
    "llama_sampler_init_greedy": (c_void_p, ()),
    "llama_sampler_init_dist": (c_void_p, (c_uint32,)),
    "llama_sampler_init_top_k": (c_void_p, (c_int32,)),
    "llama_sampler_init_top_p": (c_void_p, (c_float, c_size_t)),
    "llama_sampler_init_min_p": (c_void_p, (c_float, c_size_t)),
    "llama_sampler_init_temp": (c_void_p, (c_float,)),
    "llama_sampler_init_penalties": (c_void_p, (c_int32, c_int32, c_float, c_float, c_float)),
    "llama_sampler_apply": (None, (c_void_p, POINTER(TokenDataArray))),
    "llama_sampler_accept": (None, (c_void_p, c_int32)),
    "llama_sampler_free": (None, (c_void_p,)),
    "llama_time_us": (ctypes.c_int64, ()),
    "ggml_is_empty": (c_bool, (c_void_p,)),
}


class Library:
    """The loaded library: each function of the table as an attribute, and the last lines of its log.

    llama.cpp writes its log to the standard error; here it is kept silent, and warnings and errors are remembered,
    because they alone say why a file was refused.
    """

    def __init__(self, path: str, version: str) -> None:
        self.version = version
        self._library = ctypes.CDLL(path)
        self.bind(_SIGNATURES)
        self._check()
        self._log: deque[str] = deque(maxlen=8)
        self._callback = _LOG(self._heard)  # kept: the library holds a pointer to it
        self.listen()
        self.llama_backend_init()

    def bind(self, signatures: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> None:
        """Make these functions attributes, each with its result and its arguments. Raises Unsupported."""
        for name, (result, arguments) in signatures.items():
            try:
                function = getattr(self._library, name)
            except AttributeError:
                raise Unsupported(f"xllamacpp {self.version} does not export {name}") from None
            function.restype, function.argtypes = result, list(arguments)
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not in the table of bound functions")

    def _check(self) -> None:
        """Raises Unsupported when a structure does not lie in memory as this file says."""
        model, context = self.llama_model_default_params(), self.llama_context_default_params()
        expected = (
            (model.n_gpu_layers, -1),
            (model.use_extra_bufts, True),
            (model.load_mtp, False),
            (context.n_ctx, 512),
            (context.n_batch, 2048),
            (context.n_ubatch, 512),
            (context.n_seq_max, 1),
            (context.yarn_ext_factor, -1.0),
            (context.defrag_thold, -1.0),
            (context.type_k, 1),
            (context.type_v, 1),
            (context.offload_kqv, True),
            (context.op_offload, True),
            (context.swa_full, True),
            (context.kv_unified, False),
            (context.n_samplers, 0),
        )
        if any(is_ != should for is_, should in expected):
            raise Unsupported(f"xllamacpp {self.version} lays out its parameters otherwise than its header said")
        flag = Flag()
        before = self.ggml_is_empty(flag.address)
        flag.set()
        if before or not self.ggml_is_empty(flag.address):
            raise Unsupported(f"xllamacpp {self.version} cannot be interrupted")

    def _heard(self, level: int, text: bytes | None, _: int | None) -> None:
        if level in (3, 4) and text:  # warnings and errors
            self._log.append(text.decode(errors="replace").strip())

    def listen(self) -> None:
        """Take the log over, from the server too, which redirects it for the whole process."""
        self.llama_log_set(ctypes.cast(self._callback, c_void_p), None)
        self._log.clear()

    def complaints(self) -> str:
        """The last lines that it logged, and forgets them."""
        said = "; ".join(line for line in self._log if line)
        self._log.clear()
        return said

    def hush(self) -> None:
        """Take Python out of the log, for good: called before the interpreter ends, since the library outlives it."""
        self.llama_log_set(ctypes.cast(self.llama_time_us, c_void_p), None)  # a native no-op


class Flag:
    """A flag that native code can read, for ``llama_set_abort_callback``.

    A Python callback would take the interpreter's lock at each of the hundreds of nodes of a model's graph, and wait
    for it. ``ggml_is_empty`` has the callback's signature and tells whether any extent of a tensor is zero: given
    this block in the place of a tensor, it reads the flag, wherever in the structure the extents lie.
    """

    _SIZE = 512  # more than a ggml_tensor has

    def __init__(self) -> None:
        self._block = ctypes.create_string_buffer(b"\x01" * self._SIZE, self._SIZE)
        self.address = ctypes.addressof(self._block)

    def set(self) -> None:
        ctypes.memset(self.address, 0, self._SIZE)

    def clear(self) -> None:
        ctypes.memset(self.address, 1, self._SIZE)


def import_library() -> Any:
    """The package. Raises MissingDependency without it, EngineError without libgomp."""
    # OpenMP's threads spin while they wait by default: on a busy machine a request went from 2 s to 62 s
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import xllamacpp  # type: ignore[import-untyped]
    except ImportError as error:
        if "libgomp" in str(error):
            raise EngineError(
                "the embedded engine needs the system library libgomp.so.1, which is missing here; "
                "install it (Debian, Ubuntu: apt-get install libgomp1; Fedora: dnf install libgomp)"
            ) from error
        raise MissingDependency("xllamacpp", "local", "the embedded engine") from error
    return xllamacpp


@functools.cache
def load() -> Library:
    """Bind the library once. Raises as ``import_library`` does, and Unsupported."""
    package = import_library()
    if package.__version__ not in SUPPORTED:
        raise Unsupported(f"xllamacpp {package.__version__} was not tried with this engine")
    library = Library(package.xllamacpp.__file__, package.__version__)
    atexit.register(library.hush)
    return library
