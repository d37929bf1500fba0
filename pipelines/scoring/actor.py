"""What a scoring actor did -> Ray's metrics, which every node's Prometheus endpoint shows."""

import time
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.scoring.parts import PartScorer, PartWorker

SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
"""Upper ends of the histogram's bins but the last."""


class PartActor:
    """Scores parts in an actor of the job, and counts.

    `ray_sentiment_rows_scored_total`, `ray_sentiment_rows_rejected_total`,
    `ray_sentiment_part_seconds` (a histogram, of parts that this actor finished) and
    `ray_sentiment_model_load_seconds` (how long the model took to be ready in this process).
    """

    def __init__(self, work: PartWorker | PartScorer) -> None:
        self._work = work
        self._infer = (work.scorer if isinstance(work, PartWorker) else work).infer
        self._scored = Counter("sentiment_rows_scored", "Rows scored and written.")
        self._rejected = Counter("sentiment_rows_rejected", "Rows that could not be scored.")
        self._seconds = Histogram("sentiment_part_seconds", "Seconds a part takes.", SECONDS)
        self._loading = Gauge("sentiment_model_load_seconds", "Seconds to load the model.")

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """See `PartWorker` and `PartScorer`."""
        began = time.monotonic()
        done = self._work(item)
        # Again and again: on a GPU it loads with the first part, and Ray forgets a gauge.
        self._loading.set(self._infer.load_seconds)
        if not done["error"]:
            self._seconds.observe(time.monotonic() - began)
            # Ray refuses to count nothing.
            for counter, rows in ((self._scored, "rows"), (self._rejected, "rejected")):
                if done[rows]:
                    counter.inc(done[rows])
        return done
