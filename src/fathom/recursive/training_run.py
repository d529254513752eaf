"""A training run in a folder: started, killed at any moment, resumed, and ended with a checkpoint.

The folder holds the training state, the validations so far as ``history.jsonl``, and in the end
``checkpoint.safetensors``. A run on the CPU that was resumed ends with the bits of one that was not: the state holds
all that the next step depends on, and no decision but when to save is taken by the clock. It is one file whatever the
number of processes, which may be another one when the run is resumed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from fathom.errors import InputError, LimitError, UsageError
from fathom.recursive.checkpoint import Checkpoint, load_state, save_checkpoint, save_state, write
from fathom.recursive.config import ModelConfig, TrainConfig
from fathom.recursive.distributed import World
from fathom.recursive.heads import UPDATES_PER_ROLL_OUT, HeadFitting, calibrate
from fathom.recursive.tasks.base import Task
from fathom.recursive.training import Trainer, validate

__all__ = ["CHECKPOINT", "PACED", "Progress", "RunSettings", "history_of", "paced", "settings_of_run", "train"]

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.jsonl"
STATE = "state-0.safetensors"
PACED = ("steps", "head_steps", "validate_every", "warmup")
"""The settings that :func:`paced` chooses."""
TIMED = 2
"""How many of each kind of step are timed to find how many fit into a time."""
VALIDATIONS = 8
"""How often a run validates that is given its length in minutes."""
SHARE_OF_HEADS = 0.2
"""At most that share of such a run's time goes to the halt and value heads."""


class Progress(NamedTuple):
    """Where a run stands: told after each training step, and after each roll-out that the heads are fitted to."""

    stage: Literal["training", "heads"]
    done: int
    total: int
    averages: Mapping[str, float]
    """Moving averages of what training steps log: cross-entropy, KL of the first step, accuracy of prior samples."""
    validated: Mapping[str, float] | None = None
    """The validation of this step, where there was one."""


@dataclass(frozen=True)
class RunSettings:
    """What a resumed run must share with the one that it goes on with: all that its result depends on."""

    task: str
    model: ModelConfig
    training: TrainConfig
    compiled: bool = False

    def said(self) -> dict[str, Any]:
        """All settings by name. How often a run saves is none of them: it changes nothing."""
        training = asdict(self.training)
        del training["save_every"]
        return {"task": self.task, "compiled": self.compiled, **asdict(self.model), **training}

    def lengthens(self, found: Mapping[str, Any]) -> bool:
        """Whether these settings say more steps than ``found``."""
        return "steps" in found and self.training.steps > found["steps"]

    def require(self, found: Mapping[str, Any], out: Path) -> None:
        """Raise ``InputError`` that names the differences where ``found``, in ``out``, says something else.

        More steps than ``found`` says are no difference: they lengthen the run.
        """
        wanted = self.said()
        if self.lengthens(found):
            found = {**found, "steps": wanted["steps"]}
        differences = [
            f"{name} {found.get(name)} instead of {wanted.get(name)}"
            for name in sorted(wanted.keys() | found.keys())
            if found.get(name) != wanted.get(name)
        ]
        if differences:
            raise InputError(
                f"{out} holds a run with other settings: {', '.join(differences)}. Repeat its settings to go on with "
                "it, or use another folder."
            )


def settings_of_run(out: Path) -> Mapping[str, Any] | None:
    """The settings of the run in the folder ``out`` by name, or None where there is none to go on with."""
    file = out / STATE
    return dict(_read(file, "cpu")["settings"]) if file.exists() else None


def history_of(out: Path) -> list[dict[str, float]]:
    """The validations of the run in the folder ``out``."""
    return [json.loads(line) for line in (out / HISTORY).read_text().splitlines()]


def paced(
    seconds: float, task: Task, model_config: ModelConfig, config: TrainConfig, device: str, compiled: bool
) -> TrainConfig:
    """``config`` with as many steps as take some ``seconds``, by timing a few of each kind here and now.

    The number of steps is then a setting like any other, so that the run can be repeated and resumed exactly. Raises
    ``LimitError`` where the time is no positive number.
    """
    if not 0 < seconds < math.inf:
        raise LimitError("minutes", f"the time of a training run must be positive, not {seconds / 60:g} minutes")
    world = World.from_environment(device)
    trainer = Trainer(task, model_config, config, device=device, compiled=compiled, world=world)
    fitting = HeadFitting(trainer.best, task, config, device)
    step, validation, roll_out = (_seconds(once) for once in (trainer.advance, trainer.validate, fitting.advance))
    roll_outs = min(math.ceil(config.head_steps / UPDATES_PER_ROLL_OUT), int(SHARE_OF_HEADS * seconds / roll_out))
    left = seconds - roll_outs * roll_out - (VALIDATIONS + 2) * validation
    steps = world.first_says(max(VALIDATIONS, int(left / step)))
    head_steps = world.first_says(min(config.head_steps, max(1, roll_outs) * UPDATES_PER_ROLL_OUT))
    return replace(
        config,
        steps=steps,
        head_steps=head_steps,
        validate_every=math.ceil(steps / VALIDATIONS),
        warmup=min(config.warmup, math.ceil(steps / 10)),
    )


def train(
    task: Task,
    model_config: ModelConfig,
    config: TrainConfig,
    out: Path,
    *,
    device: str = "cpu",
    compiled: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Train, or go on training, in the folder ``out``, and return the finished checkpoint, also at ``out /
    "checkpoint.safetensors"``.

    A run that was killed goes on from the last training state, at most ``config.save_every`` seconds old. One that is
    resumed with more ``config.steps`` than it had is lengthened, ended or not: the learning rate takes the course of
    the new number from there on, the heads are fitted anew, and the checkpoint's metrics say so (``lengthened``: at
    which step, from how many). Under ``torchrun`` the batch is divided among the processes. As soon as ``stop`` says
    so, the state is saved and ``KeyboardInterrupt`` raised. Raises ``InputError`` where the folder holds a run of other
    settings or a damaged state, and ``UsageError`` where another process is training in it.
    """
    world = World.from_environment(device)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be used as the folder of a training run: {error.strerror}") from error
    settings = RunSettings(task.name, model_config, config, compiled)
    with _alone_in(out, world):
        run = _Run(task, settings, out, device, world)
        run.resume()
        while run.advance():
            run.tell(progress)
            run.save(last=bool(world.first_says(stop())))
        return run.finish()


class _Run:
    """A run at a moment: a trainer, and once that is done the fitting of the heads."""

    def __init__(self, task: Task, settings: RunSettings, out: Path, device: str, world: World) -> None:
        self.task, self.settings, self.out, self.device, self.world = task, settings, out, device, world
        self.trainer = Trainer(
            task, settings.model, settings.training, device=device, compiled=settings.compiled, world=world
        )
        self.fitting = HeadFitting(self.trainer.best, task, settings.training, device)
        self.file = out / STATE
        self.lengthened: list[tuple[int, int]] = []
        """The steps at which the run was lengthened, and how many it was to have until then."""
        self.validated: Mapping[str, float] | None = None
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the folder's state, or leave a first one there."""
        if not self.world.first_says(self.file.exists()):
            self._save()
            return
        if not self.file.exists():
            raise InputError(f"{self.out} is not the folder of the first process; they have to share one")
        state = _read(self.file, self.device)
        self.settings.require(state["settings"], self.out)
        longer = self.settings.lengthens(state["settings"])
        try:
            self.trainer.load_state_dict(state["trainer"])
            self.lengthened = [(at, of) for at, of in state.get("lengthened", [])]
            if longer:
                self.lengthened.append((self.trainer.step, state["settings"]["steps"]))
                self.trainer.best.heads.load_state_dict(self.trainer.average.heads.state_dict())
            else:
                self.fitting.load_state_dict(state["heads"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.file} is damaged ({error}). Remove it to start over.") from error

    def advance(self) -> bool:
        """One training step, or one roll-out for the heads; False where neither is left."""
        config, trainer = self.settings.training, self.trainer
        self.validated = None
        if trainer.step < config.steps:
            trainer.advance()
            if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
                self.validated = trainer.validate()
            return True
        if self.fitting.done:
            return False
        self.fitting.advance()
        return True

    def tell(self, progress: Callable[[Progress], None]) -> None:
        if self.world.rank:
            return
        config, trainer, fitting = self.settings.training, self.trainer, self.fitting
        if fitting.updates:
            progress(Progress("heads", fitting.updates, config.head_steps, trainer.averages))
        else:
            progress(Progress("training", trainer.step, config.steps, trainer.averages, self.validated))

    def save(self, last: bool) -> None:
        """Save where it is due, and where it is the ``last`` time raise ``KeyboardInterrupt``."""
        config = self.settings.training
        trained = self.trainer.step == config.steps and (self.fitting.done or not self.fitting.updates)
        if last or self.world.first_says(trained or time.monotonic() - self.saved > config.save_every):
            self._save()
        if last:
            raise KeyboardInterrupt

    def _save(self) -> None:
        state = {
            "settings": self.settings.said(),
            "trainer": self.trainer.state_dict(),
            "heads": self.fitting.state_dict(),
            "lengthened": self.lengthened,
        }
        if self.world.rank == 0:
            save_state(state, self.file)
            lines = "".join(json.dumps(entry) + "\n" for entry in self.trainer.history)
            write(self.out / HISTORY, lines.encode())
        self.saved = time.monotonic()

    def finish(self) -> Checkpoint:
        """Calibrate, measure and save the best weights."""
        task, config, best = self.task, self.settings.training, self.trainer.best
        metrics: dict[str, Any] = {
            **validate(best, task, config, self.device),
            **calibrate(best, task, config, self.device),
        }
        if self.lengthened:
            metrics["lengthened"] = self.lengthened
        checkpoint = Checkpoint(task.name, best.eval(), config, self.trainer.step, metrics)
        if self.world.rank == 0:
            save_checkpoint(checkpoint, self.out / CHECKPOINT)
        return checkpoint


@contextmanager
def _alone_in(out: Path, world: World) -> Iterator[None]:
    """Keep other runs out of the folder; a killed process leaves no lock behind."""
    if world.rank:
        yield
        return
    lock = FileLock(out / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"another process is training in {out}; wait for it, or use another folder") from None
    try:
        yield
    finally:
        lock.release()


def _read(file: Path, device: str) -> dict[str, Any]:
    state = load_state(file, device)
    settings = state.get("settings")
    paced = isinstance(settings, dict) and all(type(settings.get(name)) is int for name in PACED)
    if not paced or not {"trainer", "heads"} <= state.keys():
        raise InputError(f"{file} is no state of a training run. Remove it to start over.")
    return state


def _seconds(once: Callable[[], object]) -> float:
    """How long ``once`` takes, after a first time that pays for what is set up then."""
    once()
    began = time.perf_counter()
    for _ in range(TIMED):
        once()
    return (time.perf_counter() - began) / TIMED
