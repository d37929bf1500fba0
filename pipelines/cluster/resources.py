"""CPUs and GPUs that training workers ask Ray for."""

import math

import ray

from sentiment.errors import InputError

RESOURCE_UNITS = 10_000
"""Ray counts resources in ten-thousandths."""


def resources_per_worker(workers: int, use_gpu: bool) -> dict[str, float]:
    """Resources per worker: one CPU, or a fraction if the machine has fewer CPUs than workers.

    Raises InputError if Ray runs on one machine and that machine lacks the GPUs.
    """
    total = ray.cluster_resources()
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    # A head without CPUs belongs to a cluster that is still to grow.
    one_machine = len(ray.nodes()) == 1 and cpus > 0
    if one_machine and use_gpu and gpus < workers:
        raise InputError(
            f"--use_gpu --num_workers {workers}: this machine has {gpus:.0f} GPUs; "
            "use fewer workers, or a cluster"
        )
    cpu_share = math.floor(cpus / workers * RESOURCE_UNITS) / RESOURCE_UNITS
    resources = {"CPU": min(1.0, cpu_share) if one_machine else 1.0}
    if use_gpu:
        resources["GPU"] = 1.0
    return resources
