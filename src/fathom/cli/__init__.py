"""The command ``fathom``: one file per command, each a thin layer over the library.

Exit status: 0 ok, 1 failed, 2 usage, 3 the budget ended with no answer at all, 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from fathom.cli.calibrate import calibrate
from fathom.cli.compare import compare
from fathom.cli.explore import explore
from fathom.cli.judges import judges
from fathom.cli.models import models
from fathom.cli.plan import plan
from fathom.cli.report import report
from fathom.cli.serve import serve
from fathom.cli.solve import solve
from fathom.cli.strategies import strategies
from fathom.cli.sweep import sweep
from fathom.cli.train import train
from fathom.errors import FathomError, NoAnswer, UsageError

__all__ = ["app", "main"]

app = typer.Typer(
    name="fathom",
    help="Better answers from a fixed model: inference-time scaling under an explicit budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (solve, models, strategies, judges, train, explore, serve, sweep, report, compare, plan, calibrate):
    app.command()(command)


def main() -> None:
    """Run the command line, turning errors into one clear line and an exit status."""
    try:
        app()
    except FathomError as error:
        print(f"fathom: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 3 if isinstance(error, NoAnswer) else 1)
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads on; do not complain while shutting down
        sys.exit(0)
    except KeyboardInterrupt:
        print("fathom: interrupted", file=sys.stderr)
        sys.exit(130)
