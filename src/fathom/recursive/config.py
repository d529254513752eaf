"""Everything that can be said about a recursive model and its training; the papers' models as tables of settings.

One cell serves all presets (:mod:`fathom.recursive.model`). A latent state z = (h, l): a *transition* refines l K times
with f_L(l, h + e_x), proposes u = f_H(h + l), and sets h = u + ε; T transitions make a *supervision step*; the answer
is decoded from h after any of them. Sources: Looped Transformers arXiv 2311.12424, HRM 2506.21734, TRM 2510.04871, PTRM
2605.19943, GRAM 2605.19376.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from fathom.errors import LimitError, SpecError, one_of

__all__ = ["PRESETS", "SIZES", "ModelConfig", "Shape", "TrainConfig", "configured", "settings"]

Mixing = Literal["attention", "sequence"]
Positions = Literal["rope", "learned"]
Gradient = Literal["transition", "last-two", "all"]
Early = Literal["deterministic", "prior", "posterior"]
Mode = Literal["paper", "on-policy"]
Reconstruction = Literal["cross-entropy", "stable-max"]

Config = TypeVar("Config", "Shape", "ModelConfig", "TrainConfig")

MOST: Mapping[str, int] = {
    "length": 1 << 16,
    "symbols_in": 1 << 20,
    "symbols_out": 1 << 16,
    "fields": 1 << 16,
    "width": 1 << 14,
    "heads": 1 << 10,
    "ffn": 1 << 16,
    "layers": 1 << 6,
    "mixer": 1 << 16,
    "registers": 1 << 12,
    "supervision": 1 << 12,
    "batch": 1 << 20,
}
"""Counts far beyond any use: a file, or a slip of the pen, that asks for more is refused before it costs anything."""
MOST_CALLS = 1 << 12
"""Blocks that a supervision step may apply, one after another."""
MOST_OF_ANYTHING = 10**18


def _require_counts(of: str, config: object, names: Iterable[str], least: int = 1) -> None:
    """Raise ``LimitError`` where a count is less than ``least`` or beyond all use."""
    for name in names:
        count, most = getattr(config, name), MOST.get(name, MOST_OF_ANYTHING)
        if not least <= count <= most:
            bound = f"at least {least}" if count < least else f"at most {most}"
            raise LimitError(name, f"{name} of {of} must be {bound}, not {count}")


@dataclass(frozen=True)
class Shape:
    """The form of a task's input and answer: what a model must know of the task.

    A position of the input holds ``fields`` symbols (one on a board; one a neighbour in a graph), a position of the
    answer one.
    """

    length: int
    symbols_in: int
    symbols_out: int
    fields: int = 1

    def __post_init__(self) -> None:
        _require_counts("a task's shape", self, ("length", "symbols_in", "symbols_out", "fields"))


@dataclass(frozen=True)
class ModelConfig:
    """A recursive model's settings; see the module for the words. Defaults are those of ``gram`` at size ``tiny``."""

    width: int = 64
    """D, features of a position."""
    heads: int = 4
    ffn: int = 128
    """Hidden features of the SwiGLU over features."""
    layers: int = 2
    mixing: Mixing = "sequence"
    """How positions exchange information: attention, or a SwiGLU along the sequence axis (fixed, short sequences)."""
    mixer: int = 96
    """Hidden size of the SwiGLU along the sequence, where ``mixing`` is ``"sequence"``."""
    positions: Positions = "learned"
    registers: int = 1
    """Positions before the input's that hold no symbol: scratch space."""
    two_level: bool = True
    """Whether there is a low-level latent l beside h. A flat model's transition is h = f(h + e_x) + ε."""
    shared: bool = False
    """Whether f_L and f_H are one network."""
    inner: int = 2
    """K, refinements of l in a transition."""
    transitions: int = 1
    """T, transitions in a supervision step."""
    supervision: int = 8
    """N_sup, supervision steps that a training episode lasts. Inference may go deeper."""
    gradient: Gradient = "transition"
    """What a supervision step is differentiated through: its last transition, that one's last two calls, or
    everything.
    """
    stochastic: bool = True
    """Whether ε is drawn from a learned prior (GRAM); otherwise ε = 0."""
    early: Early = "deterministic"
    """How ε comes about in the transitions before the last of a step. ``"posterior"`` leaks the answer
    (docs/recursive.md).
    """
    start_sigma: float = 0.5
    """The prior's and the posterior's standard deviation before training."""
    noise: float = 0.0
    """σ of Gaussian noise added to h before every supervision step at inference (PTRM)."""
    first_temperature: float = 1.0
    """What the noise of a roll-out's first step is multiplied by: above 1, trajectories part ways while it costs
    little.
    """
    scale_embedding: bool = False
    """Whether symbol embeddings are multiplied by √D (TRM)."""

    def __post_init__(self) -> None:
        counts = ("width", "heads", "ffn", "layers", "mixer", "inner", "transitions", "supervision")
        _require_counts("a recursive model", self, counts)
        _require_counts("a recursive model", self, ("registers",), least=0)
        if (calls := self.transitions * (self.inner + 1) * self.layers) > MOST_CALLS:
            raise LimitError(
                "transitions",
                f"a supervision step of {self.transitions} transitions, {self.inner} refinements each, applies {calls} "
                f"blocks; at most {MOST_CALLS} make sense",
            )
        for name in ("noise", "first_temperature"):
            if not getattr(self, name) >= 0:
                raise LimitError(name, f"{name} of a recursive model is at least 0, not {getattr(self, name)}")
        if not self.start_sigma > 0:
            raise LimitError("start_sigma", f"start_sigma of a recursive model is above 0, not {self.start_sigma}")
        if self.mixing == "attention" and self.width % (2 * self.heads):
            raise LimitError("heads", f"width {self.width} does not divide into {self.heads} heads of an even size")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Defaults are those that trained the shipped checkpoints."""

    mode: Mode = "on-policy"
    """``paper``: every slot carries posterior samples forward. ``on-policy``: a share of the slots carries *prior*
    samples forward, as at inference, and their target becomes the valid solution nearest to what they decode.
    """
    on_policy_share: float = 0.5
    steps: int = 2000
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    beta2: float = 0.95
    warmup: int = 100
    decay_from: float = 0.6
    """The share of the steps after which the learning rate falls, linearly, to ``floor`` of itself; 1 keeps it
    constant.
    """
    floor: float = 0.03
    clip: float = 1.0
    ema: float = 0.999
    """Decay of the weights' moving average, warmed up as min(ema, (1 + t) / (10 + t))."""
    beta: float = 0.3
    """Weight of the KL divergence."""
    balance: float = 0.8
    """Share of the KL's gradient that moves the prior to the posterior; the rest moves the posterior to the prior."""
    reconstruction: Reconstruction = "cross-entropy"
    halt_weight: float = 0.0
    """Weight of the halt head's BCE in the training of the trunk (TRM). The heads are fitted afterwards in any case."""
    refill_halted: bool = False
    """Whether a slot whose halt head fires is given a new problem at once (TRM), unless it is exploring."""
    exploration: float = 0.1
    """Probability that a slot ignores the halt head until a random step."""
    head_steps: int = 600
    """Steps of fitting the halt and value heads on prior roll-outs of the finished trunk."""
    head_rate: float = 2e-3
    strangers: float = 0.35
    """Share of the states that the heads are fitted to which are judged for another input than their own."""
    validate_every: int = 250
    validation_inputs: int = 128
    validation_samples: int = 4
    seed: int = 0
    save_every: float = 45.0
    """Seconds between saved training states: what a killed run loses at most."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "head_steps", "validate_every", "validation_inputs", "validation_samples")
        _require_counts("a training run", self, counts)
        for name in ("on_policy_share", "exploration", "balance", "decay_from", "floor", "ema", "strangers"):
            if not 0 <= getattr(self, name) <= 1:
                raise LimitError(name, f"{name} is a share between 0 and 1, not {getattr(self, name)}")
        for name in ("learning_rate", "head_rate", "clip", "warmup"):
            if not getattr(self, name) > 0:
                raise LimitError(name, f"{name} of a training run must be positive, not {getattr(self, name)}")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "looped": {
        "two_level": False,
        "stochastic": False,
        "inner": 1,
        "transitions": 8,
        "supervision": 1,
        "gradient": "all",
        "mode": "paper",
    },
    "hrm": {
        "stochastic": False,
        "gradient": "last-two",
        "inner": 2,
        "transitions": 2,
        "halt_weight": 0.5,
        "mode": "paper",
    },
    "trm": {
        "stochastic": False,
        "shared": True,
        "scale_embedding": True,
        "reconstruction": "stable-max",
        "halt_weight": 0.5,
        "refill_halted": True,
        "mode": "paper",
    },
    "ptrm": {"noise": 0.6, "stochastic": False, "shared": True, "scale_embedding": True},
    "gram": {},
}
"""What is particular to each model. ``ptrm`` is a trained ``trm`` with noise at inference: it is not trained itself."""

SIZES: Mapping[str, Mapping[str, Any]] = {
    "micro": {"width": 32, "ffn": 64, "mixer": 48},
    "tiny": {"width": 64, "ffn": 128, "mixer": 96},
    "small": {"width": 128, "ffn": 256, "mixer": 128},
    "paper": {
        "width": 512,
        "heads": 8,
        "ffn": 512,
        "mixer": 512,
        "mixing": "attention",
        "positions": "rope",
        "inner": 4,
        "transitions": 3,
        "supervision": 16,
        "mode": "paper",
        "batch": 768,
        "learning_rate": 1e-4,
        "decay_from": 1.0,
        "weight_decay": 1.0,
        "ema": 0.9999,
        "warmup": 2000,
    },
}
"""How large a model is. ``paper`` is all that the papers of TRM and GRAM say of model and training, but for what they
say of a task (``Task.paper``) and for ``early``: a posterior in the early transitions leaks (docs/recursive.md).
"""


def settings(
    preset: str, size: str = "tiny", of_task: Mapping[str, Any] | None = None, **overrides: Any
) -> tuple[ModelConfig, TrainConfig]:
    """The model and training settings of ``preset`` at ``size`` for a task that wants those ``of_task``.

    Of these three, the preset goes before the task and the task before the size; ``overrides`` win.

    Raises ``SpecError`` for a preset, size or setting that does not exist, and for a value of the wrong type.
    """
    if preset not in PRESETS:
        raise SpecError(one_of("preset", preset, PRESETS))
    if size not in SIZES:
        raise SpecError(one_of("size", size, SIZES))
    chosen = {**SIZES[size], **(of_task or {}), **PRESETS[preset], **overrides}
    model_fields = {field.name for field in fields(ModelConfig)}
    train_fields = {field.name for field in fields(TrainConfig)}
    if unknown := chosen.keys() - model_fields - train_fields:
        raise SpecError(one_of("setting", min(unknown), model_fields | train_fields))
    return (
        configured(ModelConfig, {name: value for name, value in chosen.items() if name in model_fields}),
        configured(TrainConfig, {name: value for name, value in chosen.items() if name in train_fields}),
    )


def configured(kind: type[Config], said: Mapping[str, Any]) -> Config:
    """A ``kind`` with the values that are ``said``, each of the type of its field, and its defaults for the rest.

    Raises ``SpecError`` for a name that is no field, a value of another type, and a number that is none;
    ``LimitError`` for one out of all bounds.
    """
    types = get_type_hints(kind)
    for name, value in said.items():
        if name not in types:
            raise SpecError(one_of("setting", name, types))
        words, wanted = get_args(types[name]), types[name]
        if words and value not in words:
            raise SpecError(one_of(f"value of {name}", str(value)[:40], words))
        if not words and type(value) is not wanted and (wanted, type(value)) != (float, int):
            raise SpecError(f"{name} is of type {wanted.__name__}, not {value!r:.40}")
        if type(value) in (int, float) and not abs(value) <= MOST_OF_ANYTHING:
            raise SpecError(f"{name} must be a finite number, of no astronomical size, not {value!s:.40}")
    return kind(**said)
