"""A local Ray in this process: one that all tests share, and others in its place."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray


def share() -> None:
    """Start the Ray that tests of all files share, unless it is there.

    It starts in some seconds, and takes a twentieth of a core while it has nothing to do.
    """
    if not ray.is_initialized():
        _start()


@contextmanager
def another(num_gpus: int = 0, **system_config: object) -> Iterator[None]:
    """Context manager: in the place of the shared one, a Ray with these of its settings.

    `num_gpus`: GPUs that it believes in. TensorFlow computes on the CPU.
    """
    ray.shutdown()
    _start(num_gpus, **system_config)
    try:
        yield
    finally:
        ray.shutdown()


def _start(num_gpus: int = 0, **system_config: object) -> None:
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=num_gpus,
        include_dashboard=False,
        log_to_driver=False,
        _system_config=system_config,
    )
