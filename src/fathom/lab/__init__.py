"""The lab: sample a model once, keep what came, and score every strategy at every budget from it, honestly.

``statistics`` and ``coverage`` are the estimators, ``store`` keeps trajectories, ``pool`` holds them as arrays,
``replay`` plays a strategy on them, ``scoring`` plays all of them at once, ``sweep`` fills the store.
"""

from fathom.errors import MissingDependency

try:
    import numpy as _numpy  # noqa: F401
    import scipy as _scipy  # noqa: F401
except ImportError as error:
    raise MissingDependency(error.name or "scipy", "lab", "the lab") from error
