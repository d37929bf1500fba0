"""The metrics of a scoring job, which Ray shows to Prometheus: rows, parts, bytes, seconds, drift.

The driver exports them as parts come back to it, so a part counts once, however often Ray ran its
task. They are at the endpoint of the driver's node. All are counters: Ray drops a gauge that is
not set again, and a part may take minutes.
"""

from ray.util.metrics import Counter, Histogram

from pipelines.scoring.class_rows import MAX_CLASSES_OF_PIECES, ClassRows
from pipelines.scoring.part_data import STAGES, PartResult
from sentiment.classes import Classes

HISTOGRAM_SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
"""Upper bounds of the histogram's bins, all but the last."""

COUNTERS = {
    "parts_planned": "Parts that runs of the job set out to score.",
    "parts_done": "Parts written.",
    "parts_failed": "Parts that could not be written.",
    "rows_scored": "Rows scored and written.",
    "rows_rejected": "Rows that could not be scored.",
    "rows_truncated": "Rows scored whose text was truncated.",
    "rows_wordless": "Rows scored whose text has no known word.",
    "tokens": "Tokens of the rows scored.",
    "tokens_unknown": "Tokens that the vocabulary lacks.",
    "bytes_written": "Bytes of the files of parts.",
}
"""Names, which in Prometheus are ray_sentiment_NAME_total, and descriptions."""


class JobMetrics:
    """The metrics of one job, labelled with its output.

    Args:
        output: directory or URI of the output.
        classes: of the model.
        parts: number of parts that the job sets out to score.
    """

    def __init__(self, output: str, classes: Classes, parts: int) -> None:
        tag = {"output": output}
        self._counters = {
            name: Counter(f"sentiment_{name}", description, ("output",))
            for name, description in COUNTERS.items()
        }
        stage = ("output", "stage")
        description = "Seconds of a part, by stage."
        self._of_part = Histogram("sentiment_part_seconds", description, HISTOGRAM_SECONDS, stage)
        # Ray's histogram has no exact sum: it adds up the middles of its bins.
        self._of_stage = Counter(
            "sentiment_stage_seconds", "Seconds of all parts, by stage.", stage
        )
        self._of_class = Counter(
            "sentiment_rows_of_class", "Rows scored, by class.", ("output", "class")
        )
        for metric in (*self._counters.values(), self._of_part, self._of_stage, self._of_class):
            metric.set_default_tags(tag)
        self._classes = classes
        self._count("parts_planned", parts)

    def add(self, result: PartResult) -> None:
        """Count a part that came back."""
        if result.error:
            self._count("parts_failed", 1)
            return
        counts = result.counts
        self._count("parts_done", 1)
        self._count("rows_scored", counts.rows)
        self._count("rows_rejected", counts.rejected)
        self._count("rows_truncated", counts.truncated)
        self._count("rows_wordless", result.wordless or 0)
        self._count("tokens", counts.tokens)
        self._count("tokens_unknown", counts.unknown)
        files = filter(None, (result.file, result.rejected_file))
        self._count("bytes_written", sum(file.size for file in files))
        for stage in STAGES:
            if seconds := result.seconds.get(stage):
                self._of_part.observe(seconds, {"stage": stage})
                self._of_stage.inc(seconds, {"stage": stage})
        # Prometheus keeps a series for each.
        if len(self._classes) <= MAX_CLASSES_OF_PIECES:
            rows = ClassRows(len(self._classes)).of_one(result.answers)
            for name, number in zip(self._classes.names, rows.tolist(), strict=True):
                if number:
                    self._of_class.inc(number, {"class": name})

    def _count(self, name: str, number: int) -> None:
        # Ray raises an error if a counter is increased by 0.
        if number:
            self._counters[name].inc(number)
