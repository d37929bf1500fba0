"""The steps of the scoring job on Ray Data: rows of a dataset in, rows out, and Ray's metrics."""

import time
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.errors import Failure
from pipelines.scoring.part_data import PartCounts, PartResult, PartTask, TokenizedPart
from pipelines.scoring.reader import PartReader
from pipelines.scoring.scorer import PartScorer, PartWorker

HISTOGRAM_SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
"""Upper bounds of the histogram's bins, all but the last."""


class PartReaderTask:
    """Reads and tokenizes parts, in tasks of a GPU job."""

    def __init__(self, reader: PartReader) -> None:
        self._reader = reader

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of a `PartTask` -> the row of its `TokenizedPart`, and `error`: "", or why there is
        none.
        """
        task = PartTask.from_row(row)
        try:
            return {**self._reader(task).to_row(), "error": ""}
        except Failure as error:
            return {**TokenizedPart.empty(task).to_row(), "error": str(error)}


class PartActor:
    """Scores parts in an actor of the job, and counts them in Ray's metrics.

    Every node's Prometheus endpoint shows them: `ray_sentiment_rows_scored_total`,
    `ray_sentiment_rows_rejected_total`, `ray_sentiment_part_seconds` (a histogram over the parts
    that this actor wrote) and `ray_sentiment_model_load_seconds` (the time that the model took to
    load in this process).
    """

    def __init__(self, step: PartWorker | PartScorer) -> None:
        self._step = step
        self._infer = (step.scorer if isinstance(step, PartWorker) else step).infer
        self._scored = Counter("sentiment_rows_scored", "Rows scored and written.")
        self._rejected = Counter("sentiment_rows_rejected", "Rows that could not be scored.")
        description = "Seconds a part takes."
        self._seconds = Histogram("sentiment_part_seconds", description, HISTOGRAM_SECONDS)
        self._loading = Gauge("sentiment_model_load_seconds", "Seconds to load the model.")

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of a `PartTask` (CPU jobs) or `TokenizedPart` -> the row of its `PartResult`."""
        began = time.monotonic()
        if isinstance(self._step, PartWorker):
            result = self._step(PartTask.from_row(row))
        elif row["error"]:
            result = PartResult(row["name"], PartCounts(), row["error"])
        else:
            result = self._step(TokenizedPart.from_row(row))
        # Set with every part: on a GPU the model loads with the first one, and Ray drops a gauge
        # that is not set again.
        self._loading.set(self._infer.load_seconds)
        if not result.error:
            self._seconds.observe(time.monotonic() - began)
            # Ray raises an error if a counter is increased by 0.
            if result.counts.rows:
                self._scored.inc(result.counts.rows)
            if result.counts.rejected:
                self._rejected.inc(result.counts.rejected)
        return result.to_row()
