"""What training workers ask Ray for, given the flags and the cluster."""

import pytest
import ray

from pipelines.cluster.resources import node_cpus, resources_per_worker
from sentiment.errors import InputError

LAPTOP, GPUS, HEAD = {"CPU": 2.0}, {"CPU": 64.0, "GPU": 8.0}, {}


@pytest.fixture
def cluster(monkeypatch):
    def known(resources: dict[str, float], nodes: int) -> None:
        monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
        monkeypatch.setattr(ray, "nodes", lambda: [{}] * nodes)

    return known


@pytest.mark.parametrize(
    ("resources", "nodes", "flags", "expected"),
    [
        (LAPTOP, 1, (1, False), {"CPU": 1.0}),
        (LAPTOP, 1, (3, False), {"CPU": 0.6666}),
        (LAPTOP, 1, (4, False), {"CPU": 0.5}),
        (LAPTOP, 1, (1, False, 2), {"CPU": 2.0}),
        (GPUS, 1, (8, True), {"CPU": 1.0, "GPU": 1.0}),
        (GPUS, 1, (8, True, 8), {"CPU": 8.0, "GPU": 1.0}),
        # These may grow.
        (LAPTOP, 2, (64, False), {"CPU": 1.0}),
        (LAPTOP, 2, (64, True, 16), {"CPU": 16.0, "GPU": 1.0}),
        (HEAD, 1, (64, True), {"CPU": 1.0, "GPU": 1.0}),
    ],
)
def test_resources(cluster, resources, nodes, flags, expected):
    cluster(resources, nodes)
    assert resources_per_worker(*flags) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((64, False), "--num_workers 64: this machine has 2 CPUs, which carry at most 4 workers"),
        ((2, False, 2), "--num_workers 2 --cpus_per_worker 2: this machine has 2 CPUs"),
        ((1, True), "--use_gpu --num_workers 1: this machine has 0 GPUs"),
    ],
)
def test_one_machine_refuses_what_it_cannot_carry(cluster, flags, message):
    cluster(LAPTOP, 1)
    with pytest.raises(InputError, match=message):
        resources_per_worker(*flags)


def test_a_node_has_the_cpus_that_ray_gave_it(local_ray):
    assert ray.get(ray.remote(node_cpus).remote()) == 2
