"""Output that follows a JSON schema, or is calls of tools: before each draw, the tokens that cannot continue it are
ruled out.

The masks come from llguidance (https://github.com/guidance-ai/llguidance), which is part of the same shared library;
it is used through its own C interface, because llama.cpp's wrapper keeps one tokenizer for the whole process and
confuses models.
"""

from __future__ import annotations

import ctypes
import json
import threading
import weakref
from collections.abc import Mapping
from ctypes import POINTER, Structure, c_bool, c_char_p, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fathom.errors import EngineError, UsageError
from fathom.language.engines.llama_c import Library
from fathom.language.engines.llama_model import Model
from fathom.language.engines.tool_calls import CLOSING, OPENING, call_grammar, one_line
from fathom.records import Tools

__all__ = ["Grammar", "GrammarCompiler"]


class _TokenizerInit(Structure):
    _fields_: ClassVar = [
        ("vocab_size", c_uint32),
        ("tok_eos", c_uint32),
        ("token_lens", POINTER(c_uint32)),
        ("token_bytes", c_char_p),
        ("tokenizer_json", c_char_p),
        ("tokenize_assumes_string", c_bool),
        ("tokenize_fn", c_void_p),
        ("use_approximate_greedy_tokenize_fn", c_bool),
        ("tokenize_user_data", c_void_p),
        ("slices", c_void_p),
    ]


class _ConstraintInit(Structure):
    _fields_: ClassVar = [
        ("tokenizer", c_void_p),
        ("log_buffer_level", c_uint32),
        ("log_stderr_level", c_uint32),
        ("ff_tokens_ok", c_bool),
        ("backtrack_ok", c_bool),
        ("max_items_in_row", c_size_t),
        ("initial_lexer_fuel", c_uint64),
        ("step_lexer_fuel", c_uint64),
        ("step_max_items", c_size_t),
        ("max_lexer_states", c_size_t),
        ("max_grammar_size", c_size_t),
        ("precompute_large_lexemes", c_bool),
    ]


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llg_new_tokenizer": (c_void_p, (POINTER(_TokenizerInit), c_char_p, c_size_t)),
    "llg_free_tokenizer": (None, (c_void_p,)),
    "llg_constraint_init_set_defaults": (None, (POINTER(_ConstraintInit), c_void_p)),
    "llg_new_matcher": (c_void_p, (POINTER(_ConstraintInit), c_char_p, c_char_p)),
    "llg_clone_matcher": (c_void_p, (c_void_p,)),
    "llg_free_matcher": (None, (c_void_p,)),
    "llg_matcher_get_error": (c_char_p, (c_void_p,)),
    "llg_matcher_compute_mask_into": (ctypes.c_int32, (c_void_p, c_void_p, c_size_t)),
    "llg_matcher_consume_token": (ctypes.c_int32, (c_void_p, c_uint32)),
}


class GrammarCompiler:
    """Makes grammars for one model. The first one takes a moment, since it looks at every token of the vocabulary."""

    def __init__(self, library: Library, model: Model) -> None:
        library.bind(_SIGNATURES)
        self._lib, self._model = library, model
        self._lock = threading.Lock()
        self._tokenizer: int | None = None

    def compile(self, schema: Mapping[str, Any]) -> Grammar:
        """The grammar of a JSON schema, at its start. Raises UsageError on a schema that cannot be followed."""
        return self._made(b"json_schema", _json(one_line(schema)), "this JSON schema")

    def compile_calls(self, tools: Tools, schema: Mapping[str, Any] | None) -> Grammar:
        """The grammar of calls of tools, or of a JSON schema as well (``call_grammar``). Raises UsageError."""
        for each in (schema, *(tool["function"].get("parameters") for tool in tools.functions)):
            _json(each or {})
        text = call_grammar(tools, schema, self._term(OPENING), self._term(CLOSING))
        return self._made(b"lark", text, "the parameters of these tools")

    def _term(self, tag: str) -> str:
        """A tag as a term of a grammar: the token of its own that many models have, or its text."""
        tokens = self._model.vocabulary.tokenize(tag)
        return f"<[{tokens[0]}]>" if len(tokens) == 1 else json.dumps(tag)

    def _made(self, kind: bytes, text: str, what: str) -> Grammar:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._make_tokenizer()
        init = _ConstraintInit()
        self._lib.llg_constraint_init_set_defaults(init, self._tokenizer)
        init.log_stderr_level = 0
        matcher = self._lib.llg_new_matcher(init, kind, text.encode())
        grammar = Grammar(self._lib, self, matcher, self._model.vocabulary.size)
        problem = grammar.error()
        if problem:
            raise UsageError(f"no output can be made to follow {what}: {problem}")
        return grammar

    def _make_tokenizer(self) -> int:
        pieces = [self._spelled(token) for token in range(self._model.vocabulary.size)]
        lengths = (c_uint32 * len(pieces))(*map(len, pieces))
        data = b"".join(pieces)
        # forced tokens are never asked for, so the exact tokenisation of forced text does not matter
        init = _TokenizerInit(
            vocab_size=len(pieces),
            tok_eos=self._model.vocabulary.end_of_turn,
            token_lens=lengths,
            token_bytes=data,
            use_approximate_greedy_tokenize_fn=True,
        )
        message = ctypes.create_string_buffer(512)
        tokenizer: int | None = self._lib.llg_new_tokenizer(init, message, len(message))
        if not tokenizer:
            raise EngineError(f"the vocabulary of {self._model.path.name} cannot be constrained: {message.value!r}")
        weakref.finalize(self, self._lib.llg_free_tokenizer, tokenizer).atexit = False
        return tokenizer

    def _spelled(self, token: int) -> bytes:
        control = self._model.vocabulary.control(token)
        return (
            self._model.vocabulary.piece(token) if control is None else b"\xff" + control.encode()
        )  # its mark of a control token


def _json(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the JSON schema is no JSON itself: {error}") from error


class Grammar:
    """Where one output stands in its schema. Its native memory is freed with it; it keeps its compiler, whose it is."""

    def __init__(self, library: Library, compiler: GrammarCompiler, handle: int, n_vocab: int) -> None:
        self._lib, self._compiler, self._handle, self._n_vocab = library, compiler, handle, n_vocab
        self._mask = np.zeros((n_vocab + 31) // 32, dtype=np.uint32)
        weakref.finalize(self, library.llg_free_matcher, handle).atexit = False

    def error(self) -> str:
        text = self._lib.llg_matcher_get_error(self._handle)
        return text.decode(errors="replace") if text else ""

    def clone(self) -> Grammar:
        return Grammar(self._lib, self._compiler, self._lib.llg_clone_matcher(self._handle), self._n_vocab)

    def allowed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits with minus infinity for every token that may not come next, shape (vocabulary,)."""
        if self._lib.llg_matcher_compute_mask_into(self._handle, self._mask.ctypes.data, self._mask.nbytes):
            raise EngineError(f"the JSON schema could not be followed further: {self.error()}")
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._n_vocab)
        return np.where(bits.astype(bool), logits, np.float32(-np.inf))

    def accept(self, token: int) -> None:
        self._lib.llg_matcher_consume_token(self._handle, token)
