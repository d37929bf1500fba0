"""Everything of Ray and Ray Data that is private or unstable, for Ray 2.60.

A test for each name tells what moved when an upgrade of Ray breaks it. What is Ray Train's is in
`ray_train_internals`, because `ray.train` takes a second to load.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray._private import auto_init_hook, state, worker
from ray.core.generated import common_pb2
from ray.experimental import internal_kv

if TYPE_CHECKING:
    from ray.data import Dataset


_KV_NAMESPACE = b"sentiment"

_DIED: Any = common_pb2.ActorDiedErrorContext  # type: ignore[attr-defined]
_WANTED_ENDS = (_DIED.RAY_KILL, _DIED.OUT_OF_SCOPE, _DIED.REF_DELETED)
"""Reasons of an actor's end that a driver gave."""


@contextmanager
def settings_kept() -> Iterator[None]:
    """Context manager: in the end the switches of this module, and what Ray logs, are as before.

    After an interruption Ray still may not start by itself: a thread that goes on may ask it for
    something.
    """
    loggers = [logging.getLogger(name) for name in ("ray", "ray.train")]
    levels = [logger.level for logger in loggers]
    auto_connect, worker_logs = auto_init_hook.enable_auto_connect, worker._worker_logs_enabled
    is_interrupted = False
    try:
        yield
    except BaseException as error:
        is_interrupted = not isinstance(error, Exception)
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        _replace(worker, "_worker_logs_enabled", worker_logs)
        if not is_interrupted:
            _replace(auto_init_hook, "enable_auto_connect", auto_connect)


def forbid_auto_connect() -> None:
    """Make Ray raise an error where it would start a Ray of its own.

    Ray does so when it is asked for something before `ray.init` or after `ray.shutdown`.
    """
    _replace(auto_init_hook, "enable_auto_connect", False)


def hide_raylet_messages() -> None:
    """Keep raylets' messages off the terminal; `log_to_driver=False` lets them through."""
    _replace(worker, "_worker_logs_enabled", False)


@contextmanager
def data_options(**options: object) -> Iterator[None]:
    """Context manager: options of Ray Data's `DataContext`, for datasets that are made in it.

    Raises AttributeError for an option that Ray Data does not have; Ray Data itself would ignore
    it without a word.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    before = {name: getattr(context, name, None) for name in options}
    for name, value in options.items():
        _replace(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def blocks_of(dataset: "Dataset") -> Iterator[Any]:
    """The dataset's blocks, as Ray computes them: Arrow tables, or DataFrames of pandas.

    When this generator is closed, for example by an exception, Ray Data waits for what it runs in
    this process. The threads of `iter_rows` and `iter_batches` go on for a tenth of a second. If
    one of them releases an object while Ray shuts down, Ray ends this process without a message.
    """
    for bundle in dataset.iter_internal_ref_bundles():
        for block in bundle.block_refs:
            yield ray.get(block)


class ExecutionWatcher:
    """Tells how far Ray Data is with the datasets that are made with it: a class for the option
    `custom_execution_callback_classes` of `data_options`.

    Ray Data calls the methods in a thread of this process.
    """

    watch: Callable[[int, int], None] | None = None
    """Called with the blocks that the first operator has worked on, and the rows of the last."""

    def before_execution_starts(self, executor: Any) -> None:
        """Nothing is done yet."""

    def on_execution_step(self, executor: Any) -> None:
        """Some tasks may have ended."""
        # The input is an operator, too.
        operators = list(executor._topology)[1:]
        if ExecutionWatcher.watch and operators:
            blocks = operators[0].metrics.num_task_inputs_processed
            ExecutionWatcher.watch(blocks, operators[-1].metrics.rows_task_outputs_generated)

    def after_execution_succeeds(self, executor: Any) -> None:
        """All is done."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Whoever takes the results gets the error."""


@contextmanager
def watched(watch: Callable[[int, int], None]) -> Iterator[None]:
    """Context manager: Ray Data tells `watch`, in a thread, what an ExecutionWatcher sees."""
    ExecutionWatcher.watch = watch
    try:
        yield
    finally:
        ExecutionWatcher.watch = None


def count_in_cluster(namespace: str, key: str) -> int:
    """Add 1 to a number that outlives this process, and return it. Takes half a millisecond.

    The number is in the key-value store of Ray's cluster. One process at a time may count a key.
    """
    name = f"{namespace}/{key}".encode()
    count = counted_in_cluster(namespace, key) + 1
    internal_kv._internal_kv_put(name, b"%d" % count, overwrite=True, namespace=_KV_NAMESPACE)
    return count


def counted_in_cluster(namespace: str, key: str) -> int:
    """The number that `count_in_cluster` has last returned for a key; 0: none."""
    name = f"{namespace}/{key}".encode()
    return int(internal_kv._internal_kv_get(name, namespace=_KV_NAMESPACE) or 0)


def forget_counts(namespace: str) -> None:
    """Remove all numbers of `count_in_cluster` in a namespace."""
    internal_kv._internal_kv_del(
        f"{namespace}/".encode(), del_by_prefix=True, namespace=_KV_NAMESPACE
    )


@dataclass(frozen=True)
class ActorState:
    """What Ray's cluster knows of an actor."""

    state: str
    """ALIVE, PENDING_CREATION, DEPENDENCIES_UNREADY, RESTARTING or DEAD."""
    deaths: int
    """How often its process died, not counting a wanted end."""
    reason: str
    """Why it died the last time; "": unknown."""


def actors_of(class_name: str) -> list[ActorState]:
    """The actors of a class (or whose class name contains it) that this driver's job started."""
    job = ray.get_runtime_context().get_job_id()
    actors = []
    for actor in state.actors(job_id=ray.JobID.from_hex(job)).values():
        if class_name in actor["ActorClassName"]:
            context = actor["DeathCause"].actor_died_error_context
            is_dead = actor["State"] == "DEAD" and context.reason not in _WANTED_ENDS
            deaths = actor["NumRestarts"] + int(is_dead)
            actors.append(ActorState(actor["State"], deaths, context.error_message))
    return actors


def _replace(owner: object, name: str, value: object) -> None:
    """`setattr` that raises AttributeError for a name that does not exist yet."""
    if not hasattr(owner, name):
        raise AttributeError(
            f"Ray {ray.__version__} has no {name} in {owner}; "
            "pipelines/cluster/ray_internals.py is written for Ray 2.60"
        )
    setattr(owner, name, value)
