"""Recursive reasoning models: a small network applied to its own latent state until the answer stands.

Looped Transformers, HRM, TRM, PTRM and GRAM are one cell under different settings (:mod:`~fathom.recursive.config`).
Depth is the number of supervision steps, width the number of latent trajectories sampled from the model's prior.
"""

from fathom.errors import MissingDependency

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependency("torch", "recursive", "a recursive reasoning model") from error
