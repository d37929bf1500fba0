"""Size and resources of the actor pool that scores, given the flags and the cluster."""

from dataclasses import dataclass

import ray

from pipelines.console.terminal import quantity
from pipelines.scoring.config import ScoreConfig
from sentiment.errors import InputError

ACTORS_PER_CPU_FOR_BUCKETS = 2
"""While one actor waits for a bucket, the other one computes."""

MAX_ACTORS_PER_CPU = 4
"""On one machine: each takes memory."""

RESOURCE_UNITS = 10_000
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True)
class Pool:
    """An actor pool, and what each actor and each reading task asks Ray for."""

    min_actors: int
    initial_actors: int
    max_actors: int | None
    """None: as many as the cluster can grow to."""
    actor_cpus: float
    actor_gpus: float
    """Share of one GPU; 0: a CPU job, in which the actors also read."""
    task_cpus: float


def pool_for(config: ScoreConfig, is_cluster: bool, has_bucket: bool) -> Pool:
    """The pool for the cluster as it is now.

    An actor asks for a CPU, or for a share if there are fewer CPUs than actors. Actors with a GPU
    ask for no CPU, so that the tasks that read for them always find one. On a cluster, without
    `--num_actors`, the pool begins with what is there, and grows and shrinks with it.

    Args:
        config: The flags.
        is_cluster: Whether this is a cluster, which can grow, or one machine, which cannot.
        has_bucket: Whether parts are read from a bucket or written to one.

    Raises InputError if one machine cannot carry the actors.
    """
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    per_cpu = ACTORS_PER_CPU_FOR_BUCKETS if has_bucket and config.num_actors is None else 1
    # An actor's share is of one GPU.
    room = int(gpus) * int(1 / config.gpus_per_actor) if config.use_gpu else int(cpus) * per_cpu
    min_actors = initial_actors = max(room, 1)
    max_actors: int | None = initial_actors
    if isinstance(config.num_actors, tuple):
        min_actors, max_actors = config.num_actors
        initial_actors = min_actors
    elif config.num_actors is not None:
        min_actors = initial_actors = max_actors = config.num_actors
    elif is_cluster:
        min_actors, max_actors = 1, None
    if not is_cluster and max_actors is not None:
        _require_room(config, max_actors, room, cpus, gpus)
    actors = min_actors, initial_actors, max_actors
    if config.use_gpu:
        return Pool(*actors, 0, config.gpus_per_actor, task_cpus=min(1.0, cpus / 2 or 1.0))
    share = min(1 / per_cpu, cpus / min_actors or 1.0)
    share = int(share * RESOURCE_UNITS) / RESOURCE_UNITS
    return Pool(*actors, share, actor_gpus=0, task_cpus=share)


def _require_room(config: ScoreConfig, actors: int, room: int, cpus: float, gpus: float) -> None:
    """Raise an InputError if one machine cannot carry so many actors."""
    if config.use_gpu and actors > room:
        raise InputError(
            f"--use_gpu: {gpus:.0f} GPUs here, with room for {quantity(room, 'actor')}: use "
            "fewer --num_actors, a smaller --gpus_per_actor, or a cluster"
        )
    most = MAX_ACTORS_PER_CPU * max(int(cpus), 1)
    if not config.use_gpu and actors > most:
        raise InputError(
            f"--num_actors {actors}: this machine has {cpus:g} CPUs, which carry at most "
            f"{quantity(most, 'actor')}"
        )
