"""Importing Fathom stays light."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "numpy", "sympy", "xllamacpp", "matplotlib", "ray", "rich", "typer", "aiohttp", "transformers")


def test_importing_fathom_brings_nothing_heavy() -> None:
    code = f"import sys, fathom; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.strip() == "[]"
