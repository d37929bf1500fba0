"""CPUs and GPUs that training workers ask Ray for."""

import math

import ray

from pipelines.console.terminal import quantity
from sentiment.errors import InputError

RESOURCE_UNITS = 10_000
"""Ray counts resources in ten-thousandths."""

MAX_WORKERS_PER_CPU = 2
"""On one machine. Workers that share a CPU train no faster, and each takes half a gigabyte."""


def resources_per_worker(
    workers: int, use_gpu: bool, cpus_per_worker: int | None = None
) -> dict[str, float]:
    """Resources per worker: one CPU, or a fraction if the machine has fewer CPUs than workers.

    Args:
        workers: their number.
        use_gpu: whether each takes a GPU.
        cpus_per_worker: CPUs that each takes; None: one, or a fraction.

    Raises InputError if Ray runs on one machine that cannot carry the workers, or lacks the GPUs.
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
    if cpus_per_worker is not None:
        if one_machine and workers * cpus_per_worker > cpus:
            raise InputError(
                f"--num_workers {workers} --cpus_per_worker {cpus_per_worker}: this machine has "
                f"{cpus:g} CPUs; use fewer, or a cluster"
            )
        resources = {"CPU": float(cpus_per_worker)}
    elif one_machine:
        most = int(cpus * MAX_WORKERS_PER_CPU)
        if workers > most:
            raise InputError(
                f"--num_workers {workers}: this machine has {cpus:g} CPUs, which carry at most "
                f"{quantity(most, 'worker')}; use fewer, or a cluster"
            )
        share = math.floor(cpus / workers * RESOURCE_UNITS) / RESOURCE_UNITS
        resources = {"CPU": min(1.0, share)}
    else:
        resources = {"CPU": 1.0}
    if use_gpu:
        resources["GPU"] = 1.0
    return resources


def node_cpus() -> float:
    """The CPUs of the node that this process runs on, as Ray counts them: cgroups limit them."""
    node = ray.get_runtime_context().get_node_id()
    (cpus,) = [each["Resources"].get("CPU", 1.0) for each in ray.nodes() if each["NodeID"] == node]
    return float(cpus)
