"""A sweep on a cluster of two nodes, one of which is killed in the middle: nothing lost, nothing twice, as on one
machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upstreams import Upstream

from fathom.lab.on_ray import Job, sweep_on_ray
from fathom.lab.progress import Progress
from fathom.lab.records import Written
from fathom.lab.store import Store
from fathom.lab.sweep import SweepOptions, open_sweep
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


@pytest.mark.slow
def test_a_node_that_is_killed_costs_nothing_that_was_drawn(cluster: Any, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    cluster.wait_for_nodes()
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
