"""Mends an output: removes parts that are damaged, retired or to be tried again, so that they are
missing."""

from collections.abc import Mapping

from pipelines.errors import Failure
from pipelines.scoring.executor import Executor, LocalExecutor
from pipelines.scoring.output import Output, writing
from pipelines.scoring.verify import verify
from sentiment import storage

PARTS_PER_CHECK = 16
"""Parts that a task verifies."""

MAX_CHECKS_HERE, MAX_BYTES_CHECKED_HERE = 64, 256 * 2**20
"""Parts and bytes that the driver verifies itself: to start Ray takes seconds."""

MAX_DAMAGES = 3
"""Times that a run mends the same part."""


def mend(output: Output, executor: Executor, by: tuple[str, ...] = ()) -> dict[str, str]:
    """Verify parts that are not recorded as they are; remove damaged ones.

    Returns the damaged parts' names, each with what was wrong. They are missing now. The rows of
    parts that are read are counted by the values of the kept columns `by`.

    Raises Failure if a file is there that no job wrote, or a directory in the place of one, if a
    part is damaged again and again, and if a file cannot be read or removed.
    """
    output.look()
    require_no_foreign(output)
    damaged = output.comparison.damaged
    checks = output.unverified(by)
    chunks = [checks[i : i + PARTS_PER_CHECK] for i in range(0, len(checks), PARTS_PER_CHECK)]
    # An executor may start Ray for its first item.
    for _, results in executor.map(verify, chunks) if chunks else ():
        for result in results:
            if result.error:
                damaged[result.name] = result.error
            else:
                output.add_result(result)
    with writing(output):
        has_removed = remove_retired(output)
        _remove_damaged(output, damaged)
        output.save()
    if damaged or checks or has_removed:
        output.look()
    return damaged


def mend_here(output: Output, by: tuple[str, ...] = ()) -> dict[str, str]:
    """As `mend`, unless much has to be read: that is left for a job with its executor."""
    require_no_foreign(output)
    checks = output.unverified()
    size = sum(output.comparison.parts.size_of(f"{check.name}.parquet") for check in checks)
    if len(checks) > MAX_CHECKS_HERE or size > MAX_BYTES_CHECKED_HERE:
        return {}
    return mend(output, LocalExecutor(), by) if checks or output.comparison.damaged else {}


def require_no_foreign(output: Output) -> None:
    """Raise Failure if a reader of the output would read a file that no job wrote, or if there is a
    directory in the place of one."""
    if directories := output.comparison.directories_for_files():
        path = storage.join(output.directory, directories[0])
        raise Failure(
            f"{path} is a directory in the place of a file: move it elsewhere and run again"
        )
    foreign = output.comparison.foreign_files()
    if foreign:
        path = storage.join(output.directory, foreign[0])
        number = f" (one of {len(foreign):,})" if len(foreign) > 1 else ""
        raise Failure(
            f"{path}{number} was not written by this job, and readers would take it for "
            "scored rows: move it elsewhere and run again"
        )


def retry_rejected(output: Output) -> int:
    """Have the parts scored again that have rejected rows, and return their number. They stay where
    they are until they are replaced.

    Raises OSError.
    """
    names = output.records.with_rejected()
    if names:
        output.score_again(names)
    return len(names)


def remove_retired(output: Output) -> bool:
    """Remove the files of retired parts, `_SUCCESS` first; whether there were any.

    Raises OSError.
    """
    files = output.comparison.retired_files()
    if files:
        output.remove_files(files)
    return bool(files)


def _remove_damaged(output: Output, damaged: Mapping[str, str]) -> None:
    """Remove damaged parts, each with what is wrong. Raises OSError."""
    if not damaged:
        return
    output.damages.update(list(damaged))
    for name, times in output.damages.most_common(1):
        if times > MAX_DAMAGES:
            path = storage.join(output.directory, f"{name}.parquet")
            raise Failure(f"{path} {damaged.get(name, 'is damaged')}, again and again")
    output.remove_parts(list(damaged))
