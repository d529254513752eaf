"""What engines that draw tokens themselves take where a request leaves its sampling open."""

from __future__ import annotations

import dataclasses

from fathom.language.engines.base import Sampling

__all__ = ["complete", "draws_freely"]

_DEFAULTS = {"temperature": 0.7, "top_p": 0.95, "top_k": 40, "min_p": 0.0}


def complete(sampling: Sampling) -> Sampling:
    """With what it leaves open: temperature 0.7, top-p 0.95, top-k 40, no min-p."""
    given = {name: value for name in _DEFAULTS if (value := getattr(sampling, name)) is not None}
    return dataclasses.replace(sampling, **{**_DEFAULTS, **given})


def draws_freely(sampling: Sampling) -> bool:
    """Whether tokens are drawn by a law of the model's logits alone, which leaves a choice."""
    sampling = complete(sampling)
    changed = sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias or sampling.schema
    return bool(sampling.temperature) and not changed
