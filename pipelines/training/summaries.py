"""Losses, metrics and weights -> the TensorBoard event files and `metrics.jsonl` of one run.

Everything between two validations is one event file, a segment, which is written whole and whose
name carries its last step. So a run that resumes removes the segments of later steps, cuts
`metrics.jsonl` back to the same step, and has every step once, whenever it was killed.
"""

import io
import json
import posixpath
import re
import time
from collections.abc import Mapping, Sequence

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.pr_curve import summary as pr_curves
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from sentiment import storage
from sentiment.errors import InputError

METRICS = "metrics.jsonl"
"""A line a step, `{"step", "loss"}`, and one a validation, after its step."""

BUCKETS = 30
"""Of a histogram: TensorBoard's own number."""

_SEGMENT = re.compile(r"events\.out\.tfevents\.(\d{12})")


class Summaries:
    """What one run shows, collected since the last `save`. One process writes it."""

    def __init__(self, directory: str, step: int) -> None:
        """Go on after `step`, 0 at the beginning: what `directory` holds of later steps goes.

        Raises InputError if its `metrics.jsonl` is damaged.
        """
        self._directory = directory
        for name in storage.names(directory):
            segment = _SEGMENT.fullmatch(name)
            if segment and int(segment[1]) > step:
                storage.remove(storage.join(directory, name))
        _cut(storage.join(directory, METRICS), step)
        self._begin_segment()

    def graph(self, graph_def: bytes) -> None:
        """The graph of a step, a serialized GraphDef; once a run."""
        self._write(Event(graph_def=graph_def))

    def hparams(self, flags: Mapping[str, object]) -> None:
        """The flags of the run, by which TensorBoard compares runs; once a run."""
        # A number that is absent is left out: "None" would make a column of numbers one of text.
        values = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in flags.items()
            if value is not None
        }
        trial = posixpath.basename(self._directory.rstrip("/"))
        self._summary(0, hparams_pb(values, trial_id=trial))

    def steps(self, first: int, losses: Sequence[float], **scalars: float) -> None:
        """The losses of steps `first`, `first + 1`, ..., and other scalars at the last of them."""
        for step, loss in enumerate(losses, first):
            self._summary(step, scalar_pb("train/loss", loss))
            self._lines.append({"step": step, "loss": loss})
        for name, value in scalars.items():
            self._summary(first + len(losses) - 1, scalar_pb(f"train/{name}", value))

    def validation(
        self,
        step: int,
        metrics: Mapping[str, float],
        labels: np.ndarray,
        probabilities: np.ndarray,
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """A validation after `step`: metrics named `validation_...`, and the weights by name.

        labels (n,) are 0 or 1; probabilities (n,) are those of label 1.
        """
        self._lines.append({"step": step, **metrics})
        for name, value in metrics.items():
            tag = f"validation/{name.removeprefix('validation_')}"
            self._summary(step, scalar_pb(tag, value))
        # A model that diverged gives no numbers: no curve, and histograms of what is finite.
        if np.isfinite(probabilities).all():
            curve = pr_curves.pb("validation", labels.astype(bool), probabilities)
            # TensorFlow's message of the same name.
            self._summary(step, Summary.FromString(curve.SerializeToString()))
        for name, values in weights.items():
            self._summary(step, _histogram(f"weights/{name}", values))

    def save(self, step: int) -> None:
        """Bring everything up to `step` into the directory."""
        name = f"events.out.tfevents.{step:012d}"
        storage.write(storage.join(self._directory, name), self._segment.getvalue())
        lines = "".join(json.dumps(line) + "\n" for line in self._lines)
        storage.append(storage.join(self._directory, METRICS), lines.encode())
        self._begin_segment()

    def _begin_segment(self) -> None:
        self._segment = io.BytesIO()
        self._records = RecordWriter(self._segment)
        self._lines: list[dict[str, float]] = []
        self._write(Event(file_version="brain.Event:2"))

    def _summary(self, step: int, summary: Summary) -> None:
        self._write(Event(step=step, summary=summary))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def mean_losses(directory: str, points: int) -> list[dict[str, float]]:
    """The curve of a run's losses, `{"step", "loss"}`: at most so many means of equally many steps.

    Each is over the steps since the one before it, the last one over what is left. Empty where
    `directory` has no `metrics.jsonl`.
    """
    path = storage.join(directory, METRICS)
    lines = storage.read(path).splitlines() if storage.exists(path) else []
    steps = [step for step in map(json.loads, lines) if "loss" in step]
    each = max(1, -(-len(steps) // points))
    parts = [steps[begin : begin + each] for begin in range(0, len(steps), each)]
    return [
        {"step": part[-1]["step"], "loss": sum(step["loss"] for step in part) / len(part)}
        for part in parts
    ]


def _histogram(tag: str, values: np.ndarray) -> Summary:
    """As TensorBoard's `histogram_pb`, which would take 30 bytes and more for each value."""
    counts, edges = np.histogram(values[np.isfinite(values)], BUCKETS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    summary = Summary()
    summary.value.add(
        tag=tag,
        metadata=histograms.create_summary_metadata(display_name=None, description=None),
        tensor=tensor_util.make_tensor_proto(buckets, dtype=np.float64),
    )
    return summary


def _cut(path: str, step: int) -> None:
    """Remove from a `metrics.jsonl` the lines of later steps, and a last line that broke off."""
    if not storage.exists(path):
        return
    content = storage.read(path)
    kept = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            if int(json.loads(line)["step"]) <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"{path}, line {number} is damaged: mend it, or move the file away"
            ) from None
    if len(whole := b"".join(kept)) < len(content):
        storage.write(path, whole)
