"""A local Ray in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def started(num_gpus: int = 0, **system_config: object) -> Iterator[None]:
    """Context manager: a Ray of two CPUs on this machine, with these of its settings.

    `num_gpus`: GPUs that it believes in. TensorFlow computes on the CPU.
    """
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=num_gpus,
        include_dashboard=False,
        log_to_driver=False,
        _system_config=system_config,
    )
    try:
        yield
    finally:
        ray.shutdown()
