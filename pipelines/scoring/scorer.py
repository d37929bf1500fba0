"""Scores a tokenized part and writes its files."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Unavailable
from pipelines.scoring.commit import PartWriter
from pipelines.scoring.part_data import BINS, PartCounts, PartResult, PartTask, TokenizedPart
from pipelines.scoring.part_file import part_content
from pipelines.scoring.sealed_parquet import parquet_content
from pipelines.scoring.verify import PartCheck, verify
from sentiment.errors import InputError
from sentiment.model.inference import Inference
from sentiment.text.tokenizer import UNKNOWN


@dataclass(frozen=True)
class PartScorer:
    """Scores and writes parts. A part's file appears only when it is whole."""

    infer: Inference
    write: PartWriter
    plans: tuple[str, ...]
    """SHA-256 of each plan's file, in hex."""
    model_hash: str

    def __call__(self, part: TokenizedPart) -> PartResult:
        """Score a part and write its files. Raises Unavailable or Failure if they cannot be."""
        name = part.task.name
        probabilities = self.infer(part.ids, part.offsets)[:, 1].copy()
        is_positive = probabilities >= 0.5
        answers = pc.if_else(pa.array(is_positive), "positive", "negative")
        added = {"positive_probability": pa.array(probabilities), "sentiment": answers}
        names = [*part.kept.column_names, *added]
        table = pa.table([*part.kept.columns, *added.values()], names=names)
        result = PartResult(
            name,
            PartCounts(
                rows=len(table),
                rejected=part.rejected_rows,
                truncated=part.truncated,
                positive=int(is_positive.sum()),
                tokens=len(part.ids),
                unknown=int(np.count_nonzero(part.ids == UNKNOWN)),
            ),
            histogram=np.histogram(probabilities, BINS, (0, 1))[0].tolist(),
            answers=_rows_and_positives(is_positive, part.piece_rows),
            reasons=dict(part.reasons),
        )
        rejected = parquet_content(part.rejected) if len(part.rejected) else None
        try:
            result = replace(result, rejected_file=self.write.write_rejected(name, rejected))
            plan = self.plans[part.task.plan]
            content = part_content(table, part.task, result, plan, self.model_hash)
            return replace(result, file=self.write.commit(name, content))
        except (OSError, InputError) as error:
            raise Unavailable(f"it cannot be written: {error}") from error

    def finished(self, task: PartTask) -> PartResult | None:
        """The result of a part that is there already; None: it is not, or is not this part.

        Raises Unavailable during an outage.
        """
        modified = self.write.modified(task.name, "")
        if not modified:
            return None
        check = PartCheck(
            output=self.write.output,
            name=task.name,
            plan=self.plans[task.plan],
            rows=task.rows,
            pieces=len(task.pieces),
            sha256="",
            modified=modified,
            rejected_modified=self.write.modified(task.name, "_rejected"),
        )
        (result,) = verify([check])
        return None if result.error else result


def _rows_and_positives(
    is_positive: npt.NDArray[np.bool_], piece_rows: npt.NDArray[np.int64]
) -> list[int]:
    """int[2 * pieces]: number of rows and number of positive rows, piece by piece.

    Args:
        is_positive: bool[rows].
        piece_rows: int64[pieces], which sums up to `rows`.
    """
    positives_before = np.concatenate([[0], np.cumsum(is_positive)])
    ends = np.cumsum(piece_rows)
    positives = positives_before[ends] - positives_before[ends - piece_rows]
    pairs = np.stack([piece_rows, positives], axis=1)
    return [int(number) for number in pairs.ravel()]
