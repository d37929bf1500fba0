"""The directory of a run: its flags, its initial weights, and Ray Train's checkpoints.

`flags.json` is written before training starts. It alone decides whether a run may be resumed, so
that it does not matter how Ray Train names its files.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from pipelines.errors import Failure
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import VERSION
from sentiment import storage
from sentiment.checkpoint import Checkpoint
from sentiment.errors import UNREADABLE, InputError

FLAGS = "flags.json"
"""File name: the flags that the run was started with, and the key of its corpus."""

INITIAL = "initial.safetensors"
"""File name: `InitialWeights`."""

LOCK = ".lock"
"""File name: locked by the program that trains the run."""

CORPUS = "corpus"
"""In `flags.json`: the key of the prepared corpus."""

PREPARED_AS = "prepared_as"
"""In `flags.json`: the part of that key that depends on the version of this package."""

SHORTER = "shorter"
"""In `flags.json`: whether the run was first to take fewer steps."""

CONTENTS = "contents"
"""In `flags.json`: hashes by flag, of files that may be replaced under their names (`contents`)."""

FREE_FLAGS = (
    "preset",
    "config",
    "run_name",
    "use_gpu",
    "verbose",
    "max_failures",
    "mlflow_experiment",
)
"""Flags that may differ when a run is resumed, and change nothing in what it learns."""

STEP_FLAGS = ("train_steps", "epochs")
"""Flags that say how many steps a run takes. It may be resumed for more."""

WORKER_FLAGS = ("num_workers", "cpus_per_worker")
"""Flags that say on what a run trains. They may change; results then differ by rounding."""

CHANGING_FLAGS = (*STEP_FLAGS, "early_stopping", *WORKER_FLAGS)
"""Flags in which a run that goes on may differ from what it was started with."""


@contextmanager
def alone_in(run: str, name: str) -> Iterator[None]:
    """Context manager: no other program on this disk trains the run `name` in this directory.

    Each would remove the other's checkpoints. Raises Failure if another one does. In a bucket,
    nothing keeps two programs apart.
    """
    storage.make_directory(run)
    lock = ExitStack()
    try:
        lock.enter_context(storage.locked(storage.join(run, LOCK), wait=False))
    except BlockingIOError:
        raise Failure(
            f"--run_name {name}: another program trains this run now: wait for it, or choose "
            "another --run_name"
        ) from None
    with lock:
        yield


def run_flags(config: TrainConfig) -> dict[str, Any]:
    """The flags that must be the same when a run is resumed."""
    flags = {name: value for name, value in asdict(config).items() if name not in FREE_FLAGS}
    # As the file has them: tuples are lists there.
    as_read: dict[str, Any] = json.loads(json.dumps(flags))
    return _used(as_read)


def _used(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags; `train_steps` is None where `epochs` takes its place."""
    used = dict(flags)
    if used.get("epochs") is not None:
        used["train_steps"] = None
    return used


def contents(stop_words: Sequence[str], initial: Checkpoint | None) -> dict[str, str]:
    """Hashes of what a run is started with and its flags only name, by flag.

    A run keeps the vectors of `--initial_vectors`; its shards are in the key of its corpus.

    Args:
        stop_words: of `--stopwords_file`.
        initial: the model of `--initial_checkpoint`; None: there is none.
    """
    words = hashlib.sha256("".join(f"{word}\n" for word in stop_words).encode()).hexdigest()
    models = {"initial_checkpoint": initial.model_hash} if initial else {}
    return {"stopwords_file": words, **models}


def has_checkpoints(run: str) -> bool:
    """Whether Ray Train has saved anything in the run's directory.

    Any file but our own counts, whatever its name.
    """
    return not {FLAGS, INITIAL}.issuperset(storage.names(run))


def write_flags(
    config: TrainConfig,
    corpus_key: str,
    hashes: Mapping[str, str],
    run: str,
    *,
    is_longer: bool = False,
) -> None:
    """Record how the run is started. Call it before training starts.

    Args:
        config: the flags.
        corpus_key: of the prepared corpus.
        hashes: see `contents`.
        run: the run's directory.
        is_longer: whether the run was to take fewer steps until now.
    """
    flags = run_flags(config)
    flags |= {CORPUS: corpus_key, PREPARED_AS: VERSION, CONTENTS: dict(hashes)}
    if is_longer or (has_checkpoints(run) and _read_flags(run).get(SHORTER)):
        flags[SHORTER] = True
    storage.write(storage.join(run, FLAGS), json.dumps(flags, indent=1).encode())


def was_shorter(run: str) -> bool:
    """Whether the run, which has checkpoints, was first to take fewer steps."""
    return bool(_read_flags(run).get(SHORTER))


def changed_flags(
    config: TrainConfig, run: str, of_model: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Flags that differ from what the run was started with, and may: steps, patience, workers.

    Steps and patience also differ if they are not those of the run's finished model: then the run
    was to take more steps, and was stopped on the way.

    Args:
        config: the flags.
        run: the run's directory.
        of_model: the flags of the finished model; None: there is none, or nobody knows them.

    Returns:
        For each the line to print, by name; none if the run has no checkpoints.

    Raises InputError if another flag differs, or if the run is asked for fewer steps.
    """
    if not has_checkpoints(run):
        return {}
    # Runs of versions that lack a flag have its default.
    started, flags = _with_defaults(_read_flags(run)), run_flags(config)
    changed = {name: started[name] for name in flags if started[name] != flags[name]}
    trained = _with_defaults(of_model) if of_model is not None else started
    # The one that says how many steps there are.
    of_steps = [name for name in STEP_FLAGS if flags[name] is not None]
    lines = {
        name: f"--{name} is {_shown(flags, name)}; the model that is there was trained with "
        f"{_shown(trained, name)}"
        for name in (*of_steps, "early_stopping")
        if trained[name] != flags[name]
    }
    for name, before in changed.items():
        if name in STEP_FLAGS and name not in of_steps:
            continue
        now = f"--{name} is {_shown(flags, name)}"
        differs = f"{now}, but run {config.run_name} was started with {_shown(started, name)}"
        if name not in CHANGING_FLAGS:
            raise InputError(
                f"{differs}: resume it with the same flags, or choose another --run_name"
            )
        effect = ""
        if name in STEP_FLAGS:
            # Epochs and steps are compared once the corpus is prepared: `takes_more_steps`.
            if before is not None and flags[name] < before:
                raise InputError(
                    f"{differs}: a run can only take more, so choose another --run_name"
                )
            if config.schedule == "linear":
                effect = "; the learning rate is now that of the longer run, so it goes up again"
        elif name in WORKER_FLAGS:
            effect = "; sums over other workers or threads are rounded in another order"
        lines[name] = f"{now}; it was {_shown(started, name)}{effect}"
    return lines


def _with_defaults(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags that a run or model has kept: what earlier versions lacked has its default."""
    return _used(run_flags(TrainConfig()) | dict(flags))


def _shown(flags: Mapping[str, Any], name: str) -> str:
    """A flag's value, as one gives it; where epochs say how many steps there are, `--epochs 3`."""
    value = flags[name]
    if name in STEP_FLAGS and value is None:
        (other,) = set(STEP_FLAGS) - {name}
        return f"--{other} {flags[other]}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def takes_more_steps(run: str, name: str, steps: int, rows: int) -> bool:
    """Whether the run was started with fewer steps than `steps`; InputError if with more.

    Where one was told in epochs and the other in steps, only the rows to train on tell.
    """
    if not has_checkpoints(run):
        return False
    flags = _with_defaults(_read_flags(run))
    started: int | None = flags["train_steps"]
    if started is None:
        started = flags["epochs"] * (rows // flags["batch_size"])
    if steps < started:
        raise InputError(
            f"--run_name {name}: these flags say {steps:,} steps, but the run was started with "
            f"{started:,}: a run can only take more, so choose another --run_name"
        )
    return steps > started


def require_trained_with(config: TrainConfig, flags: Mapping[str, Any] | None) -> None:
    """Raise an InputError if these flags, of a finished model, are others than those of now.

    Without the run's directory it cannot take more steps, either. None: something else has saved
    the model, and nobody knows its flags.
    """
    if flags is None:
        return
    started, wanted = _with_defaults(flags), run_flags(config)
    for name, now in wanted.items():
        if name in WORKER_FLAGS or (name in STEP_FLAGS and now is None):
            continue
        if started[name] != now:
            raise InputError(
                f"--{name} is {_shown(wanted, name)}, but model {config.run_name} was trained with "
                f"{_shown(started, name)}, and the directory of its run is gone: choose another "
                "--run_name"
            )


def other_contents(
    config: TrainConfig, corpus_key: str, hashes: Mapping[str, str], run: str
) -> str:
    """That the run, which has checkpoints, was started with another model, words or corpus.

    The flags are those of the run; what they name was replaced since.

    Args:
        config: the flags.
        corpus_key: of the corpus.
        hashes: see `contents`.
        run: the run's directory.

    Returns:
        A line that names the flag; "": nothing is another, as far as the run has recorded it.
    """
    if not has_checkpoints(run):
        return ""
    flags = _read_flags(run)
    started = flags.get(CONTENTS, {})
    for name, hashed in hashes.items():
        if started.get(name, hashed) != hashed:
            return (
                f"--{name} {getattr(config, name)}: what is there is not what run "
                f"{config.run_name} was started with; choose another --run_name"
            )
    if flags.get(CORPUS) == corpus_key:
        return ""
    # Runs of versions that lack the entries may be of the same version and words, or not.
    if flags.get(PREPARED_AS, VERSION) != VERSION:
        return (
            f"--run_name {config.run_name}: another version of this package prepared the corpus "
            "that it was started with: finish it with that version, or choose another --run_name"
        )
    unknown = "" if PREPARED_AS in flags else ", or another version of this package prepared them"
    if CONTENTS not in flags:
        unknown += ", or --stopwords_file or --initial_checkpoint has other words"
    return (
        f"--data_dir {config.data_dir}: its shards, or those of --unlabelled, are not the ones "
        f"that run {config.run_name} was started with (name, size or time differs{unknown}); "
        "choose another --run_name"
    )


def _read_flags(run: str) -> dict[str, Any]:
    path = storage.join(run, FLAGS)
    try:
        flags = json.loads(storage.read(path))
        problem: object = "it is not a JSON object"
        if isinstance(flags, dict):
            steps = (flags.get(name) for name in STEP_FLAGS)
            if all(number is None or isinstance(number, int) for number in steps):
                return flags
            problem = "its steps are no numbers"
    except FileNotFoundError:
        problem = "it is missing"
    except UNREADABLE as error:
        problem = error
    raise InputError(
        f"{run} has checkpoints, but {FLAGS}, which says with which flags they were trained, "
        f"cannot be read ({problem}): choose another --run_name"
    )
