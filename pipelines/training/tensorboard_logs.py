"""TensorBoard logs of a run, beside its `metrics_files`: losses, metrics, weights, graph, flags.

Each event file is a segment: all events between two validations, written at once, with its last
step in its name. A run that resumes removes the segments of later steps and their lines in
`metrics_files`. So each step occurs once, whenever the run was killed, on disks and in buckets. The
flags are the segment of step 0, which each start of the run writes anew.

TensorBoard's writers append to local files and cannot take steps back. Therefore this module, and
no other, uses TensorBoard's protocol buffers; `test_tensorboard_logs.py` reads all of it with a
real TensorBoard server.
"""

import io
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

from pipelines.training import metrics_files
from sentiment import storage

HISTOGRAM_BUCKETS = 30
"""TensorBoard's default."""

CURVE_CLASSES = 5
"""Most precision-recall curves of a validation."""

_SEGMENT = re.compile(r"events\.out\.tfevents\.(\d{12})")


class Summaries:
    """The logs of one run. Collects events until `save`. Only one process may write a run."""

    def __init__(self, directory: str, step: int) -> None:
        """Continue the logs after `step`, 0 at the start; remove what is there of later steps.

        Args:
            directory: path or URI.
            step: the last step to keep.

        Raises InputError if `metrics.jsonl` is damaged.
        """
        self._directory = directory
        for name in storage.names(directory):
            segment = _SEGMENT.fullmatch(name)
            if segment and int(segment[1]) > step:
                storage.remove(storage.join(directory, name))
        metrics_files.cut(directory, step)
        self._begin_segment()

    def graph(self, graph_def: bytes) -> None:
        """Add the graph of a training step, a serialized GraphDef. Call it once per run."""
        self._segment.add(Event(graph_def=graph_def))

    def hparams(self, flags: Mapping[str, object]) -> None:
        """Write the run's flags, by which TensorBoard compares runs, over those of earlier starts.

        Of several records of a run TensorBoard takes the first one.
        """
        # None is left out: the text "None" would turn a column of numbers into one of text.
        values = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in flags.items()
            if value is not None
        }
        trial = posixpath.basename(self._directory.rstrip("/"))
        segment = _Segment()
        segment.add(Event(summary=hparams_pb(values, trial_id=trial)))
        self._write(0, segment)

    def steps(self, first: int, losses: Sequence[float], **scalars: float) -> None:
        """Add the losses of steps `first`, `first + 1`, ..., and other scalars of the last step."""
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
        classes: Sequence[str],
        weights: Mapping[str, np.ndarray],
        about: str = "",
    ) -> None:
        """Add a validation: metrics, precision-recall curves, and histograms of the weights.

        There is one curve for two classes, of the second one; else one for each of the
        `CURVE_CLASSES` most frequent classes.

        Args:
            step: the last step before the validation.
            metrics: by name, `validation_...`.
            labels: int64[n], the class of each text.
            probabilities: float64[n, K].
            classes: names of the K classes.
            weights: float arrays by name.
            about: what TensorBoard says of the metrics and curves: of which rows they are.
        """
        self._lines.append({"step": step, **metrics})
        for name, value in metrics.items():
            tag = f"validation/{name.removeprefix('validation_')}"
            self._summary(step, scalar_pb(tag, value, about))
        # A model that diverged has NaN or inf: then no curve, and histograms of the finite weights.
        if np.isfinite(probabilities).all():
            curves = {"validation": 1}
            if len(classes) > 2:
                rows = np.bincount(labels, minlength=len(classes))
                frequent = np.argsort(-rows, kind="stable")[:CURVE_CLASSES]
                curves = {f"validation/{classes[k]}": int(k) for k in frequent}
            for name, k in curves.items():
                curve = pr_curves.pb(name, labels == k, probabilities[:, k], description=about)
                # From TensorBoard's own class to TensorFlow's class of the same message.
                self._summary(step, Summary.FromString(curve.SerializeToString()))
        for name, values in weights.items():
            self._summary(step, _histogram(f"weights/{name}", values))

    def save(self, step: int) -> None:
        """Write everything since the last `save` into the directory; `step` is the last step."""
        self._write(step, self._segment)
        metrics_files.add(self._directory, step, self._lines)
        self._begin_segment()

    def _begin_segment(self) -> None:
        self._segment = _Segment()
        self._lines: list[dict[str, float]] = []

    def _summary(self, step: int, summary: Summary) -> None:
        self._segment.add(Event(step=step, summary=summary))

    def _write(self, step: int, segment: "_Segment") -> None:
        name = f"events.out.tfevents.{step:012d}"
        storage.write(storage.join(self._directory, name), segment.content())


class _Segment:
    """The content of an event file."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._records = RecordWriter(self._file)
        self.add(Event(file_version="brain.Event:2"))

    def add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def content(self) -> bytes:
        return self._file.getvalue()


def mean_losses(directory: str, points: int) -> list[dict[str, float]]:
    """The loss curve of a run: means over equally many steps each, `{"step", "loss"}`.

    Args:
        directory: path or URI of the run's logs.
        points: of the curve, at most.

    Returns:
        Points with the last step of each mean; the last mean may be over fewer steps. Empty if
        there are no metrics.
    """
    steps = [line for line in metrics_files.read(directory) if "loss" in line]
    each = max(1, -(-len(steps) // points))
    groups = [steps[first : first + each] for first in range(0, len(steps), each)]
    return [
        {"step": group[-1]["step"], "loss": sum(step["loss"] for step in group) / len(group)}
        for group in groups
    ]


def _histogram(tag: str, values: np.ndarray) -> Summary:
    """A histogram of the finite values. TensorBoard's `histogram_pb` takes 30 bytes per value."""
    counts, edges = np.histogram(values[np.isfinite(values)], HISTOGRAM_BUCKETS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    summary = Summary()
    summary.value.add(
        tag=tag,
        metadata=histograms.create_summary_metadata(display_name=None, description=None),
        tensor=tensor_util.make_tensor_proto(buckets, dtype=np.float64),
    )
    return summary
