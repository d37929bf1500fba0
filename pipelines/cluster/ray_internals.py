"""Everything of Ray and Ray Data that is private or unstable, for Ray 2.60.

A test for each name tells what moved when an upgrade of Ray breaks it. What is Ray Train's is in
`ray_train_internals`, because `ray.train` takes a second to load.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray._private import auto_init_hook, worker

if TYPE_CHECKING:
    from ray.data import Dataset


def forbid_auto_connect() -> None:
    """Make Ray raise an error where it would start a Ray of its own.

    Ray does so when it is asked for something before `ray.init` or after `ray.shutdown`.
    """
    _replace(auto_init_hook, "enable_auto_connect", False)


def hide_raylet_messages() -> None:
    """Keep raylets' messages off the terminal; `log_to_driver=False` lets them through."""
    _replace(worker, "_worker_logs_enabled", False)


def set_data_options(**options: object) -> None:
    """Set options of Ray Data's `DataContext`.

    Raises AttributeError for an option that Ray Data does not have; Ray Data itself would ignore
    it without a word.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    for name, value in options.items():
        _replace(context, name, value)


def blocks_of(dataset: "Dataset") -> Iterator[Any]:
    """The dataset's blocks, as Ray computes them: Arrow tables, or DataFrames of pandas.

    When this generator is closed, for example by an exception, Ray Data waits for what it runs in
    this process. The threads of `iter_rows` and `iter_batches` go on for a tenth of a second. If
    one of them releases an object while Ray shuts down, Ray ends this process without a message.
    """
    for bundle in dataset.iter_internal_ref_bundles():
        for block in bundle.block_refs:
            yield ray.get(block)


def _replace(owner: object, name: str, value: object) -> None:
    """`setattr` that raises AttributeError for a name that does not exist yet."""
    if not hasattr(owner, name):
        raise AttributeError(
            f"Ray {ray.__version__} has no {name} in {owner}; "
            "pipelines/cluster/ray_internals.py is written for Ray 2.60"
        )
    setattr(owner, name, value)
