"""A local Ray in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def started(**system_config: object) -> Iterator[None]:
    """Context manager: a Ray of two CPUs on this machine, with these of its settings."""
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _system_config=system_config,
    )
    try:
        yield
    finally:
        ray.shutdown()
