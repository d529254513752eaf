from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fathom.errors import LimitError, UsageError
from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.flops import step_flops
from fathom.recursive.library import find_checkpoint
from fathom.recursive.plane import doublings, held_out, latent_paths, measure_plane
from fathom.recursive.plane_figure import draw_plane
from fathom.recursive.rollout import trajectories
from fathom.recursive.tasks import open_task


def test_doublings_end_with_the_most() -> None:
    assert doublings(1, "depth") == (1,)
    assert doublings(16, "depth") == (1, 2, 4, 8, 16)
    assert doublings(12, "width") == (1, 2, 4, 8, 12)
    with pytest.raises(LimitError, match="width must be at least 1"):
        doublings(0, "width")


def test_the_plane_is_read_off_one_pool_and_costs_what_its_steps_cost(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(find_checkpoint("coloring-8"))
    task = open_task("coloring-8")
    plane = measure_plane(checkpoint, task, name="mine", depth=6, width=3, inputs=20, seed=4)
    assert (plane.depths, plane.widths, plane.inputs) == ((1, 2, 4, 6), (1, 2, 3), 20)
    x = held_out(task, 20)
    assert len({tuple(row) for row in x.flatten(1).tolist()}) == 20
    pool = trajectories(checkpoint.model, x, depths=(4,), width=3, seed=4)[4][0]
    right = task.valid(x.repeat_interleave(3, 0), pool.flatten(0, 1)).view(20, 3)
    cell = plane.cell(4, 3)
    assert cell.valid.value == pytest.approx(right.any(-1).float().mean().item())
    assert cell.sample.value == pytest.approx(right.float().mean().item())
    for cell in plane.cells:
        assert cell.sample.value <= cell.valid.value + 1e-9
        assert max(cell.vote.value, cell.value.value) <= cell.valid.value
        assert cell.steps == cell.depth * cell.width
        assert cell.flops == cell.steps * plane.step_flops
        assert cell.memory_bytes == cell.width * plane.trajectory_bytes
        assert cell.seconds == pytest.approx(cell.depth * plane.cell(1, cell.width).seconds)
    assert plane.cell(1, 1).seconds <= plane.cell(1, 3).seconds
    paths = latent_paths(checkpoint.model, task, x[0], width=5, depth=6)
    for name in ("plane.png", "plane.svg"):
        draw_plane(plane, paths, tmp_path / name, "valid")
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "plane.svg").read_text()[:600]
    with pytest.raises(UsageError, match=r"ends in \.png"):
        draw_plane(plane, paths, tmp_path / "plane.txt")


def test_latent_paths_are_principal_components_and_keep_what_the_latents_do() -> None:
    checkpoint = load_checkpoint(find_checkpoint("coloring-8"))
    task = open_task("coloring-8")
    paths = latent_paths(checkpoint.model, task, held_out(task, 1)[0], width=6, depth=5, seed=1)
    points = paths.points.flatten(0, 1)
    assert paths.points.shape == (6, 5, 2)
    assert points.mean(0).abs().max() < 1e-2
    assert abs((points[:, 0] * points[:, 1]).sum()) < 1e-2 * points.square().sum()
    assert 0 < paths.explained[1] <= paths.explained[0] <= 1
    assert len(paths.right) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["queens-8", "coloring-8"])
def test_derived_operations_are_those_that_torch_counts(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = load_checkpoint(find_checkpoint(name)).model
    state = model.start(1)
    e = torch.zeros(1, *model.h0.shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        after = model.supervision_step(state, e, model.noise(1)).state
        model.judge(after.h, e)
        model.decode(after.h)
    assert step_flops(model) == pytest.approx(counter.get_total_flops(), rel=0.03)
