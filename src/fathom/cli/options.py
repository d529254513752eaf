"""What several commands ask in the same words."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["ModelArgument", "ModelOption"]

_MODEL = "A name or URI, see `fathom models`; options go in parentheses: embedded(temperature=0.4)."

ModelArgument = Annotated[str, typer.Argument(help=_MODEL)]
ModelOption = Annotated[str, typer.Option("--model", "-m", help=_MODEL)]
