from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import tiny

from fathom.errors import LimitError, UsageError
from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.explorer import Explorer, Trajectory
from fathom.recursive.library import find_checkpoint
from fathom.recursive.model import Latent, RecursiveModel
from fathom.recursive.noise import key_of, noise_of
from fathom.recursive.settling import End, Footprints, Settling
from fathom.recursive.tasks.queens import Queens


def outcome(trajectories: list[Trajectory]) -> list[tuple[list[int], int, End | None, float]]:
    return [([] if t.answer is None else t.answer.tolist(), t.depth, t.end, t.value) for t in trajectories]


def test_one_seed_one_result_whatever_the_waves_slots_and_order(queens: Queens, model: RecursiveModel) -> None:
    boards = queens.inputs("test")[:3]

    def explore(order: list[int], seed: int = 5, **limits: int) -> list[list[tuple[list[int], int, End | None, float]]]:
        explorer = Explorer(model, seed=seed, **limits)
        numbers = [explorer.pose(boards[i]) for i in order]
        results = explorer.run(numbers, width=7, depth=4)
        return [outcome(results[order.index(i)]) for i in range(3)]

    reference = explore([0, 1, 2])
    assert reference == explore([2, 0, 1], wave=4)
    assert reference == explore([1, 2, 0], slots=5, wave=3)
    assert reference != explore([0, 1, 2], seed=6)


def test_a_trajectory_is_the_same_alone_and_among_others(queens: Queens, model: RecursiveModel) -> None:
    board = queens.inputs("test")[0]
    alone, among = Explorer(model), Explorer(model)
    one = alone.start(alone.pose(board))
    for _ in range(3):
        alone.advance([one])
    problem = among.pose(board)
    many = [among.start(problem) for _ in range(5)]
    for _ in range(3):
        among.advance(many[1:][::-1])
        among.advance(many[:1])
    assert torch.equal(alone.conclude([one])[0], among.conclude(many[:1])[0])
    assert torch.equal(alone.path(one), among.path(many[0]))


@pytest.mark.parametrize("name", ["queens-8", "coloring-8"])
def test_a_step_and_its_judgement_have_the_same_bits_in_any_batch(name: str) -> None:
    model = load_checkpoint(find_checkpoint(name)).model
    with torch.inference_mode():
        h, low, e = torch.randn(3, 40, *model.h0.shape)
        noise = model.noise(40)
        assert noise is not None
        together = model.supervision_step(Latent(h, low), e, noise).state.h
        judged = model.judge(together, e)
        for size in (1, 2, 3, 7, 8, 17, 32):
            part = slice(5, 5 + size)
            state = model.supervision_step(Latent(h[part], low[part]), e[part], noise[:, part]).state.h
            assert torch.equal(state, together[part])
            assert torch.equal(torch.stack(model.judge(state, e[part])), torch.stack(judged)[:, part])


@pytest.mark.parametrize("preset", ["gram", "trm"])
def test_first_steps_that_share_their_proposal_are_the_models_own(queens: Queens, preset: str) -> None:
    torch.manual_seed(2)
    model = RecursiveModel(tiny(preset, first_temperature=1.5)[0], queens.shape).requires_grad_(False)
    assert model.first_step_is_shared == (preset == "gram")
    boards = queens.inputs("test")[:2]
    explorer = Explorer(model, wave=2)
    started = [explorer.start(explorer.pose(board)) for board in boards]
    started.append(explorer.start(started[0].problem))
    explorer.advance(started)
    x = torch.stack([boards[0], boards[1], boards[0]])
    noise = noise_of([(t.key, 0) for t in started], (1, *model.h0.shape)).transpose(0, 1) * 1.5
    step = model.supervision_step(model.start(3), model.encode(x), noise if model.draws else None)
    answers = model.decode(step.state.h).argmax(-1)
    assert torch.equal(torch.stack(explorer.conclude(started)), answers)
    torch.testing.assert_close(
        torch.tensor([t.value for t in started]), model.judge(step.state.h, model.encode(x))[1].sigmoid()
    )


def test_compiled_steps_give_the_same_answers(
    queens: Queens, model: RecursiveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # needs no C++ compiler
    boards = queens.inputs("test")[:3]
    runs = []
    for compiled in (False, True):
        explorer = Explorer(model, compiled=compiled)
        runs.append(explorer.run([explorer.pose(board) for board in boards], width=2, depth=3))
    plain, quick = ([t for run in kind for t in run] for kind in runs)
    assert [t.answer.tolist() for t in plain if t.answer is not None] == [
        t.answer.tolist() for t in quick if t.answer is not None
    ]
    torch.testing.assert_close(torch.tensor([t.value for t in quick]), torch.tensor([t.value for t in plain]))


def test_a_fork_shares_the_past_and_goes_its_own_way(queens: Queens, model: RecursiveModel) -> None:
    explorer = Explorer(model)
    parent = explorer.start(explorer.pose(queens.inputs("test")[0]))
    explorer.advance([parent])
    first, second = explorer.fork(parent), explorer.fork(parent)
    assert torch.equal(explorer.conclude([first])[0], explorer.conclude([parent])[0])
    explorer.advance([parent, first, second])
    paths = [explorer.path(t) for t in (parent, first, second)]
    assert all(torch.equal(path[0], paths[0][0]) for path in paths)
    ends = [path[1] for path in paths]
    assert all(not torch.equal(a, b) for a, b in zip(ends, ends[1:] + ends[:1], strict=True))
    assert parent.depth == first.depth == 2


def test_slots_are_bounded_freed_and_used_again(queens: Queens, model: RecursiveModel) -> None:
    explorer = Explorer(model, slots=2)
    problem = explorer.pose(queens.inputs("test")[0])
    first, second = explorer.start(problem), explorer.start(problem)
    with pytest.raises(LimitError, match="all 2 slots"):
        explorer.start(problem)
    with pytest.raises(LimitError, match="started before"):
        explorer.run([problem], width=1, depth=1)
    explorer.drop(first)
    assert explorer.free == 1
    third = explorer.start(problem)
    explorer.advance([second, third])
    with pytest.raises(UsageError, match="dropped"):
        explorer.advance([first])
    with pytest.raises(UsageError, match="dropped"):
        explorer.drop(first)


def test_bfloat16_leaves_the_callers_model_alone_and_is_as_repeatable(queens: Queens, model: RecursiveModel) -> None:
    results = []
    for wave in (2, 5):
        explorer = Explorer(model, dtype=torch.bfloat16, wave=wave)
        problem = explorer.pose(queens.inputs("test")[0])
        results.append(outcome(explorer.run([problem], width=5, depth=3)[0]))
        explorer.retire(problem)
    assert results[0] == results[1]
    assert model.h0.dtype == torch.float32
    assert explorer.trajectory_bytes * 2 == Explorer(model).trajectory_bytes


def test_halting_ends_a_trajectory_as_soon_as_the_head_is_sure(queens: Queens, model: RecursiveModel) -> None:
    with torch.no_grad():
        model.heads.out.bias.fill_(9.0)
    explorer = Explorer(model)
    problem = explorer.pose(queens.inputs("test")[0])
    (halted,) = explorer.run([problem], width=3, depth=9, halt_threshold=0.99)
    assert [(t.depth, t.end) for t in halted] == [(1, End.HALTED)] * 3
    (exhausted,) = explorer.run([problem], width=3, depth=4)
    assert [(t.depth, t.end) for t in exhausted] == [(4, End.EXHAUSTED)] * 3
    assert explorer.free == 1024


def ends_of(path: list[float], answers: list[int]) -> list[End | None]:
    """What is seen after each step of a latent of 64 equal numbers, in one slot of several."""
    footprints, ends = Footprints(5, 64, torch.device("cpu")), []
    for depth, (value, answer) in enumerate(zip(path, answers, strict=True), 1):
        slot, at = torch.tensor([3]), torch.tensor([depth])
        footprints.record(slot, at, torch.full((1, 4, 16), value))
        footprints.record_answers(slot, at, torch.full((1, 9), answer))
        ends += footprints.settled(slot, at, Settling())
    return ends


def test_a_still_latent_converges_and_a_returning_one_loops() -> None:
    changing = list(range(40))
    assert ends_of([1.0] * 4, changing[:4]) == [None, None, End.CONVERGED, End.CONVERGED]
    assert ends_of([0.0, 1.0, 2.0] * 2, changing[:6]) == [None] * 4 + [End.LOOPED] * 2
    assert ends_of([float(step) for step in range(40)], changing) == [None] * 40


def test_a_stochastic_model_settles_where_its_answer_does() -> None:
    moving = [float(step) for step in range(6)]
    assert ends_of(moving, [0, 1, 1, 0, 0, 0]) == [None] * 5 + [End.CONVERGED]


def test_settling_looks_no_farther_back_than_is_remembered() -> None:
    with pytest.raises(LimitError, match="at most 16 together"):
        Settling(period=15, patience=2)


def test_a_deterministic_model_settles_before_the_depth_ends(queens: Queens) -> None:
    torch.manual_seed(0)
    explorer = Explorer(RecursiveModel(tiny("trm")[0], queens.shape))
    problem = explorer.pose(queens.inputs("test")[0])
    ((settled,),) = explorer.run([problem], width=1, depth=400, settling=Settling(tolerance=0.05))
    assert settled.end in (End.CONVERGED, End.LOOPED)
    assert settled.depth < 400


@given(key=st.integers(0, 2**64 - 1), depth=st.integers(0, 10_000))
@settings(max_examples=20)
def test_noise_is_a_function_of_key_and_depth(key: int, depth: int) -> None:
    pair = noise_of([(key, depth), (key, depth + 1)], (3, 50))
    assert torch.equal(pair[0], noise_of([(key, depth)], (3, 50))[0])
    assert not torch.equal(pair[0], pair[1])


def test_noise_is_standard_normal_and_keys_differ() -> None:
    drawn = noise_of([(key_of(0, i), 1) for i in range(50)], (400,))
    assert abs(drawn.mean().item()) < 0.03
    assert abs(drawn.std().item() - 1) < 0.03
    assert len({key_of(a, b) for a in range(30) for b in range(30)}) == 900
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc")
