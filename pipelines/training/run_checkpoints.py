"""The checkpoints in a run's directory, and Ray Train's list of them.

Ray Train writes both in place and unsynced. A process that is killed, or a node that loses power,
may leave the list cut off or lost, or a checkpoint that is on it.
"""

import posixpath

import pyarrow.fs as pafs
import ray.train
from safetensors import SafetensorError

from pipelines.cluster.ray_train_internals import (
    CHECKPOINT_NAME,
    SNAPSHOT,
    list_of_checkpoints,
    listed_checkpoints,
)
from pipelines.training.resume_state import PROGRESS, SCORE, STATE, RunProgress, read_state
from sentiment import storage
from sentiment.errors import UNREADABLE, on_one_line


def mend_list(run: str, name: str) -> str:
    """List what is whole, if Ray Train's list or a checkpoint on it is damaged.

    Ray Train fails at a list that it cannot read and at a lost checkpoint, its workers at a
    checkpoint that is cut off; they would fail again and again. With the new list the run goes on
    from the last checkpoint that is whole, or from its first step.

    Args:
        run: the run's directory.
        name: of the run.

    Returns:
        A line that says what is damaged; "": nothing is.
    """
    path = storage.join(run, SNAPSHOT)
    there = [entry for entry in storage.names(run) if CHECKPOINT_NAME.fullmatch(entry)]
    damaged = []
    try:
        names = listed_checkpoints(storage.read(path).decode())
    except FileNotFoundError:
        names = there
        if there:
            damaged.append(f"{path} is missing")
    except UNREADABLE as error:
        names = there
        damaged.append(f"{path} is damaged ({on_one_line(error)})")
    whole: dict[str, RunProgress] = {}
    for checkpoint in names:
        try:
            whole[checkpoint] = _progress(storage.join(run, checkpoint))
        except FileNotFoundError:
            # Ray Train takes a checkpoint off the list before it removes it.
            damaged.append(f"{storage.join(run, checkpoint)} is damaged (files are missing)")
        except (*UNREADABLE, SafetensorError) as error:
            damaged.append(f"{storage.join(run, checkpoint)} is damaged ({on_one_line(error)})")
    if not damaged:
        return ""
    in_order = sorted(whole, key=lambda checkpoint: (whole[checkpoint].step, checkpoint))
    if not in_order:
        storage.remove_if_there(path)
        return f"{', '.join(damaged)}: run {name} starts again from its first step"
    listed = list_of_checkpoints([(each, whole[each].reported()) for each in in_order], SCORE)
    storage.write(path, listed.encode())
    return (
        f"{', '.join(damaged)}: run {name} goes on after step {whole[in_order[-1]].step:,}, with "
        "the checkpoints that are whole"
    )


def _progress(directory: str) -> RunProgress:
    """The progress of a checkpoint that is whole; raises FileNotFoundError, one of UNREADABLE or
    SafetensorError if it is not."""
    filesystem, inner = storage.resolve(directory)
    _, progress = read_state(ray.train.Checkpoint(inner, filesystem))
    if not progress.validations:
        raise ValueError(f"{PROGRESS} has no validation")
    return progress


def remove_unregistered(
    filesystem: pafs.FileSystem, run: str, registered: list[ray.train.Checkpoint]
) -> None:
    """Remove checkpoints of a run that Ray Train does not know.

    A process leaves one if it dies while it saves. Removes only directories whose names are Ray
    Train's names of checkpoints and which hold nothing but our files; and none at all if Ray Train
    uses other names than those we know.

    Args:
        filesystem: of the run's directory.
        run: path of the run's directory.
        registered: the checkpoints that Ray Train knows.
    """
    kept = {posixpath.basename(checkpoint.path) for checkpoint in registered}
    entries = filesystem.get_file_info(pafs.FileSelector(run))
    if SNAPSHOT not in {entry.base_name for entry in entries}:
        return
    if not all(CHECKPOINT_NAME.fullmatch(name) for name in kept):
        return
    for entry in entries:
        if (
            entry.type == pafs.FileType.Directory
            and CHECKPOINT_NAME.fullmatch(entry.base_name)
            and entry.base_name not in kept
            and _holds_only_state(filesystem, entry.path)
        ):
            filesystem.delete_dir(entry.path)


def _holds_only_state(filesystem: pafs.FileSystem, directory: str) -> bool:
    """Whether a directory holds no file but those of a checkpoint."""
    entries = filesystem.get_file_info(pafs.FileSelector(directory))
    return all(entry.is_file and entry.base_name in (STATE, PROGRESS) for entry in entries)
