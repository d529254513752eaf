"""A sweep on a cluster of two nodes, one of which is killed in the middle: nothing lost, nothing twice, as on one
machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from upstreams import Upstream

from fathom.errors import UsageError
from fathom.lab.on_ray import Assignment, Worker, sweep_on_ray
from fathom.lab.progress import Progress
from fathom.lab.records import GREEDY, UNLIMITED, Written
from fathom.lab.store import Store
from fathom.lab.sweep import Job, SweepOptions, open_sweep
from fathom.models import open_model

QUESTIONS, SAMPLES = 16, 4


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, a worker's place each."""
    import ray
    from ray.cluster_utils import Cluster

    sources = [str(Path(__file__).parents[2] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=small)
    ray.init(found.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sources)}})
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def kept(directory: Path) -> list[tuple[Any, ...]]:
    """What is kept of each trajectory, but for the times."""
    with Store(directory) as store:
        return [_without_times(t) for t in store.trajectories(store.find().id)]


def _without_times(t: Written) -> tuple[Any, ...]:
    return t.question, t.sample, t.seed, t.answer, t.text, t.score, t.steps, t.finished


async def drawn(worker: Worker, assignment: Assignment) -> tuple[list[Written], str]:
    """All that a worker sends of a question, and what failed."""
    await worker.begin(assignment)
    items: list[Written] = []
    while True:
        sent = await worker.collect()
        items += [item for item in sent.items if isinstance(item, Written)]
        if sent.done:
            return items, sent.failed


async def test_a_worker_draws_what_is_missing_and_no_more() -> None:
    with Upstream() as server:
        worker = Worker(Job(f"openai:m@{server.url}", "arithmetic:5", SweepOptions(samples=4)))
        terms, facts = await worker.prepare()
        found, failed = await drawn(worker, Assignment(3, {UNLIMITED: frozenset({GREEDY, 0, 2})}))
        whole, _ = await drawn(worker, Assignment(4, {}))
        await worker.close()
    assert (terms.model, facts["unit"], failed) == ("m", "token", "")
    assert {(t.question, t.sample) for t in found} == {(3, 1), (3, 3)}
    assert sorted((t.question, t.sample) for t in whole) == [(4, sample) for sample in (GREEDY, 0, 1, 2, 3)]


async def test_a_question_that_fails_is_told_with_its_reason() -> None:
    with Upstream(refused={"model": "no such model"}) as server:
        worker = Worker(Job(f"openai:m@{server.url}", "arithmetic:2", SweepOptions(samples=2)))
        await worker.prepare()
        found, failed = await drawn(worker, Assignment(1, {}))
        await worker.close()
    assert found == []
    assert "no such model" in failed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_that_is_killed_costs_nothing_that_was_drawn(cluster: Any, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    cluster.wait_for_nodes(timeout=120)
    seen: list[int] = []

    def observe(progress: Progress) -> None:
        seen.append(progress.done)
        if len(seen) == 1 or progress.done < progress.total // 4 or not cluster.worker_nodes:
            return
        cluster.remove_node(second, allow_graceful=False)

    with Upstream(delay=0.15) as server:
        uri, options = f"openai:m@{server.url}", SweepOptions(samples=SAMPLES, parallel=2)
        job = Job(uri, f"arithmetic:{QUESTIONS}", options)
        done = asyncio.run(sweep_on_ray(job, tmp_path / "ray", observe=observe))
        asyncio.run(_alone(uri, job, tmp_path / "alone"))
        later = replace(job, options=replace(options, judges=('regex(pattern="[0-4]")',)))
        with pytest.raises(UsageError, match="without --on"):
            asyncio.run(sweep_on_ray(later, tmp_path / "ray"))
    assert not cluster.worker_nodes
    assert (done.done, done.total, done.failed) == (QUESTIONS * (SAMPLES + 1), QUESTIONS * (SAMPLES + 1), {})
    found = kept(tmp_path / "ray")
    assert found == kept(tmp_path / "alone")
    assert len({row[:2] for row in found}) == len(found) == done.total


async def _alone(uri: str, job: Job, directory: Path) -> None:
    """The same sweep in this process."""
    model = await open_model(uri)
    async with open_sweep(model, uri, job.load(), directory, None, job.options) as sweeper:
        await sweeper.run()
    await model.aclose()
