"""A training run in MLflow, as it goes: flags, losses and validations, and the checkpoint."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pipelines.tracking import MODEL_TAG, MlflowRun, Point
from pipelines.training import metrics_files
from pipelines.training.config import TrainConfig
from pipelines.training.run_directory import CHANGING_FLAGS, has_checkpoints, run_flags
from sentiment import storage
from sentiment.checkpoint import Checkpoint

POLL_SECONDS = 10.0
"""How often the feed looks for new lines of `metrics_files`, which each validation adds."""

RUN_TAG = "sentiment.run"
"""Tag of a run: the directory or URI of its training checkpoints."""

FLAG_TAG = "sentiment."
"""Begin of the tags of a run that went on: the flags of its last start that may be others then. Its
parameters are those of the first start, as MLflow lets nobody change them."""


class MlflowFeed:
    """Sends what `metrics_files` says to MLflow, from a thread, and at the end the checkpoint."""

    def __init__(self, run: MlflowRun, logs: str) -> None:
        """Begin to follow a run.

        Args:
            run: where it goes.
            logs: directory or URI of the run's TensorBoard logs, with its metrics.
        """
        self._run, self._logs = run, logs
        # A run that is resumed after it was killed takes some steps again.
        self._last = {kind: run.last_step(f"{kind}/loss") for kind in ("train", "validation")}
        self._sent: dict[str, int] = {}
        """Bytes of the files that MLflow has all of, by name."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def finish(self, checkpoint: Checkpoint, others: Mapping[str, bytes]) -> None:
        """Send the checkpoint's files, and others beside them."""
        self._run.files("checkpoint", {**checkpoint.files(), **others})
        self._run.tag(MODEL_TAG, checkpoint.model_hash)

    def stop(self) -> None:
        """Send what is left, and end the thread."""
        self._ended.set()
        self._thread.join()
        self._send()

    def _feed(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._send()

    def _send(self) -> None:
        """Send the lines that MLflow does not have."""
        try:
            files = metrics_files.changed(self._logs, self._sent)
        except OSError:
            return  # Their bucket is away.
        points, last = [], dict(self._last)
        for values in metrics_files.parsed(files):
            step = int(values.pop("step"))
            kind = "train" if "loss" in values else "validation"
            if step > self._last[kind]:
                last[kind] = step
                points += [
                    Point(f"{kind}/{name.removeprefix('validation_')}", value, step)
                    for name, value in values.items()
                ]
        if files and self._run.metrics(points):
            self._last = last
            self._sent |= {name: len(content) for name, content in files.items()}


@contextmanager
def mlflow_feed(config: TrainConfig, name: str, runs: str) -> Iterator[MlflowFeed | None]:
    """Context manager: feed the run to MLflow while the block runs; None without the flag.

    Args:
        config: the flags.
        name: of the run.
        runs: directory or URI of the runs' directories.

    Raises InputError if MLflow is not installed, or its settings cannot be used.
    """
    if config.mlflow_experiment is None:
        yield None
        return
    directory = storage.join(runs, name)
    continues = has_checkpoints(directory)
    run = MlflowRun(config.mlflow_experiment, name, {RUN_TAG: directory}, continues)
    flags = run_flags(config)
    if run.is_new:
        run.flags(flags)
    else:
        for flag in CHANGING_FLAGS:
            run.tag(f"{FLAG_TAG}{flag}", str(flags[flag]))
    feed = MlflowFeed(run, storage.join(config.summaries_dir, name))
    status = "FAILED"
    try:
        yield feed
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        feed.stop()
        run.close(status)
