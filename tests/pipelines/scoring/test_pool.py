"""The size of the actor pool, for the flags and the cluster."""

import pytest
import ray

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.pool import Pool, pool_for
from sentiment.errors import InputError

NONE, LAPTOP, LARGE = {}, {"CPU": 2.0}, {"CPU": 64.0, "GPU": 8.0}


def config(**flags: object) -> ScoreConfig:
    return ScoreConfig(checkpoints_dir="", input=(), output="", **flags)


@pytest.mark.parametrize(
    ("resources", "is_cluster", "flags", "expected"),
    [
        # One machine: its CPUs, as Ray counts them.
        (LAPTOP, False, {}, Pool(2, 2, 2, 1.0, 0, 1.0)),
        ({"CPU": 1.0}, False, {"num_actors": 2}, Pool(2, 2, 2, 0.5, 0, 0.5)),
        (LARGE, False, {"use_gpu": True}, Pool(8, 8, 8, 0, 1.0, 1.0)),
        (LARGE, False, {"use_gpu": True, "gpus_per_actor": 0.5}, Pool(16, 16, 16, 0, 0.5, 1.0)),
        # A cluster: what is there now, and whatever it grows or shrinks to.
        (LAPTOP, True, {}, Pool(1, 2, None, 1.0, 0, 1.0)),
        (NONE, True, {}, Pool(1, 1, None, 1.0, 0, 1.0)),
        (LARGE, True, {"use_gpu": True}, Pool(1, 8, None, 0, 1.0, 1.0)),
        (LAPTOP, True, {"num_actors": (4, 100)}, Pool(4, 4, 100, 0.5, 0, 0.5)),
        (NONE, True, {"num_actors": 7}, Pool(7, 7, 7, 1.0, 0, 1.0)),
    ],
)
def test_pools(monkeypatch, resources, is_cluster, flags, expected):
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    assert pool_for(config(**flags), is_cluster, has_bucket=False) == expected


@pytest.mark.parametrize(
    ("resources", "is_cluster", "flags", "expected"),
    [
        # While one actor waits for the bucket, the other one computes.
        (LAPTOP, False, {}, Pool(4, 4, 4, 0.5, 0, 0.5)),
        (LAPTOP, True, {}, Pool(1, 4, None, 0.5, 0, 0.5)),
        (NONE, True, {}, Pool(1, 1, None, 0.5, 0, 0.5)),
        ({"CPU": 1.0}, False, {}, Pool(2, 2, 2, 0.5, 0, 0.5)),
        (LAPTOP, False, {"num_actors": 2}, Pool(2, 2, 2, 1.0, 0, 1.0)),
        # With GPUs, CPUs read ahead.
        (LARGE, False, {"use_gpu": True}, Pool(8, 8, 8, 0, 1.0, 1.0)),
    ],
)
def test_pools_for_buckets(monkeypatch, resources, is_cluster, flags, expected):
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    assert pool_for(config(**flags), is_cluster, has_bucket=True) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_actors": 100}, "--num_actors 100: this machine has 2 CPUs, which carry at most 8"),
        ({"num_actors": (1, 9)}, "--num_actors 9: this machine has 2 CPUs"),
        ({"use_gpu": True}, "--use_gpu: 0 GPUs here, with room for 0 actors"),
    ],
)
def test_one_machine_refuses_what_it_cannot_carry(monkeypatch, flags, message):
    monkeypatch.setattr(ray, "cluster_resources", lambda: LAPTOP)
    with pytest.raises(InputError, match=message):
        pool_for(config(**flags), is_cluster=False, has_bucket=False)
    pool_for(config(**flags), is_cluster=True, has_bucket=False)
