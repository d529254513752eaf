"""Measure the explorer: trajectories per second by width and dtype, bytes of one, what halting and settling save.

python benchmarks/recursive_explorer.py queens-8
python benchmarks/recursive_explorer.py queens-8-trm --sigma 0.6 --inputs 100
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from torch import Tensor

from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.evaluate import wilson
from fathom.recursive.explorer import Explorer
from fathom.recursive.library import find_checkpoint
from fathom.recursive.model import RecursiveModel
from fathom.recursive.settling import Settling
from fathom.recursive.tasks import Task, open_task

KINDS = {
    "float32": (torch.float32, False),
    "float32, compiled": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
}


def throughput(
    model: RecursiveModel, x: Tensor, width: int, dtype: torch.dtype, compiled: bool, depth: int = 8
) -> tuple[float, float]:
    """Trajectories of one problem at ``width``, per second and per second of this process's CPU time; the best of
    three runs.

    The second is what a core to itself would do, or nearly: caches and memory are shared on a busy machine all the
    same.
    """
    explorer = Explorer(model, dtype=dtype, slots=max(48, width), compiled=compiled)
    explorer.run([explorer.pose(x)], width=48, depth=2)  # sizes of two kinds, so that all is compiled
    best = cpu = 0.0
    for _ in range(3):
        problem = explorer.pose(x)
        began, used = time.perf_counter(), time.process_time()
        explorer.run([problem], width=width, depth=depth)
        best = max(best, width / (time.perf_counter() - began))
        cpu = max(cpu, width / (time.process_time() - used))
    return best, cpu


def stopping(
    model: RecursiveModel, task: Task, x: Tensor, depth: int, halt_threshold: float, settling: Settling | None
) -> str:
    """Puzzles per second and per second of CPU time, accuracy and mean depth of one trajectory an input."""
    explorer = Explorer(model)
    problems = [explorer.pose(board) for board in x]
    began, used = time.perf_counter(), time.process_time()
    runs = explorer.run(problems, width=1, depth=depth, halt_threshold=halt_threshold, settling=settling)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    answers = torch.stack([run[0].answer for run in runs if run[0].answer is not None])
    right = wilson(int(task.valid(x, answers).sum()), len(x))
    mean_depth = sum(run[0].depth for run in runs) / len(runs)
    return f"{len(x) / seconds:.0f} | {len(x) / cpu:.0f} | {right} | {mean_depth:.2f}"


def growth(model: RecursiveModel, x: Tensor, more: int = 3840) -> float:
    """Growth of this process's peak memory with the number of trajectories, in bytes each."""
    explorer = Explorer(model, slots=8192)
    problem = explorer.pose(x)
    peaks = []
    for number in (256, more):
        trajectories = [explorer.start(problem) for _ in range(number)]
        for _ in range(4):
            explorer.advance(trajectories)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return (peaks[1] - peaks[0]) / more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--widths", type=int, nargs="*", default=[32, 128, 256, 512])
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument(
        "--sigma", type=float, default=0.0, help="noise at inference for a deterministic checkpoint (PTRM)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    task = open_task(checkpoint.task)
    model = checkpoint.model.with_settings(noise=options.sigma) if options.sigma else checkpoint.model
    x = task.inputs("test")[: options.inputs]
    state, grown = Explorer(model).trajectory_bytes, growth(model, x[0])
    print(f"bytes of a trajectory's state: {state}; growth of peak memory a trajectory: {grown / state:.2f} of that")
    print("\ndtype | width | trajectories/s at depth 8 | per second of CPU time")
    for name, (dtype, compiled) in KINDS.items():
        for width in options.widths:
            best, cpu = throughput(model, x[0], width, dtype, compiled)
            print(f"{name} | {width} | {best:.0f} | {cpu:.0f}", flush=True)
    model = model.float()
    print(f"\nrule, of at most {options.depth} steps | puzzles/s | per second of CPU time | right | mean depth")
    rules = {
        "all steps always": (1.0, None),
        f"halting at {checkpoint.halt_threshold}": (checkpoint.halt_threshold, None),
        "settling": (1.0, Settling()),
    }
    for name, (threshold, settling) in rules.items():
        print(f"{name} | {stopping(model, task, x, options.depth, threshold, settling)}", flush=True)


if __name__ == "__main__":
    main()
