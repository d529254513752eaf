"""What ``reasoning_effort`` buys: by the model's own curve where it was measured, else by fixed widths.

A profile (`fathom calibrate`) tells how a vote's accuracy grows with its width. An effort is then a share of what there
is to gain over one sample, and buys the least width that brings it: a model that gains nothing after four samples is
not made to draw 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.costs import Costs
from fathom.language.engines.base import EngineTraits
from fathom.planning.ability import Ability
from fathom.planning.plan import WORTH
from fathom.planning.profile import Fitted, fit, kept_profile, load
from fathom.serve.config import EffortEntry
from fathom.serve.wire import Effort

__all__ = ["EFFORTS", "SHARES", "by_curve", "profile_of", "told"]

EFFORTS: Mapping[Effort, EffortEntry] = {
    "minimal": EffortEntry(width=1),
    "low": EffortEntry(width=4),
    "medium": EffortEntry(width=8),
    "high": EffortEntry(width=16),
    "xhigh": EffortEntry(width=32),
    "max": EffortEntry(width=64),
}
"""What ``reasoning_effort`` may spend where nobody says and nothing was measured; ``none`` is the plain completion."""

SHARES: Mapping[Effort, float] = {"minimal": 0.0, "low": 0.5, "medium": 0.75, "high": 0.9, "xhigh": 0.97, "max": 1.0}
"""Of the accuracy that the widest vote gains over one sample."""

WIDTHS = (1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)


def by_curve(ability: Ability) -> dict[Effort, EffortEntry]:
    """The least widths that bring each effort's share of the gain; the last bit, not worth a sample, is left out."""
    curve = {width: ability.accuracy(width, 1.0) for width in WIDTHS}
    most = max(curve.values()) - curve[1]
    wanted = {effort: curve[1] + share * max(0.0, most - WORTH) for effort, share in SHARES.items()}
    return {
        effort: EffortEntry(width=next(width for width, accuracy in curve.items() if accuracy >= least))
        for effort, least in wanted.items()
    }


def profile_of(traits: EngineTraits, path: str | None) -> Fitted | None:
    """The profile to go by: a file's, or the latest that is kept for this model. Raises what `load` and `fit` do."""
    costs = Costs(traits.model, traits.version, traits.parameters)
    return fit(load(path), costs) if path is not None else kept_profile(costs)


def told(efforts: Mapping[Effort, EffortEntry], profile: Fitted | None) -> dict[str, Any]:
    """How it is told in ``GET /v1/models``."""
    said = {
        effort: {name: value for name in entry.__struct_fields__ if (value := getattr(entry, name)) is not None}
        for effort, entry in efforts.items()
    }
    return {"efforts": said, **({"profile": profile.profile.label} if profile else {})}
