"""The lab: sample a model once, keep what came, and score every strategy at every budget from it, honestly.

``statistics`` and ``coverage`` are the estimators, ``store`` keeps trajectories, ``pool`` holds them as arrays,
``replay`` plays a strategy on them, ``scoring`` plays all of them at once, ``sweep`` fills the store.
"""

from importlib.util import find_spec

from fathom.errors import MissingDependency

for _package in ("numpy", "scipy"):
    if find_spec(_package) is None:
        raise MissingDependency(_package, "lab", "the lab")
