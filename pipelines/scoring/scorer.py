"""Scores a tokenized part and writes its files."""

import time
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipelines.errors import Unavailable
from pipelines.scoring.by_value import count_by
from pipelines.scoring.class_rows import ClassRows
from pipelines.scoring.commit import PartWriter
from pipelines.scoring.part_data import (
    BINS,
    STAGES,
    PartCounts,
    PartResult,
    PartTask,
    TokenizedPart,
)
from pipelines.scoring.part_file import part_content, probability_sums
from pipelines.scoring.sealed_parquet import parquet_content
from pipelines.scoring.verify import PartCheck, verify
from sentiment.answers import answers
from sentiment.classes import Classes
from sentiment.errors import InputError
from sentiment.model.inference import Inference
from sentiment.text.tokenizer import UNKNOWN


def _wordless(ids: np.ndarray, offsets: np.ndarray) -> int:
    """How many texts have no token that the vocabulary has: int32[tokens], int64[texts + 1]."""
    known = np.concatenate([[0], np.cumsum(ids != UNKNOWN)])[offsets]
    return int(np.count_nonzero(np.diff(known) == 0))


@dataclass(frozen=True)
class PartScorer:
    """Scores and writes parts. A part's file appears only when it is whole."""

    infer: Inference
    write: PartWriter
    plans: tuple[str, ...]
    """SHA-256 of each plan's file, in hex."""
    model_hash: str
    classes: Classes
    by: tuple[str, ...] = ()
    """Kept columns by whose values rows are counted."""

    def __call__(self, part: TokenizedPart) -> PartResult:
        """Score a part and write its files. Raises Unavailable or Failure if they cannot be."""
        name = part.task.name
        began = time.monotonic()
        scored = answers(self.infer, part.ids, part.offsets, self.classes)
        names = [*part.kept.column_names, *scored.columns.column_names]
        table = pa.table([*part.kept.columns, *scored.columns.columns], names=names)
        scored_at = time.monotonic()
        layout = ClassRows(len(self.classes))
        numbers = layout.count(scored.winners, part.piece_rows)
        rows_of = dict(zip(self.classes.names, layout.of_one(numbers).tolist(), strict=True))
        result = PartResult(
            name,
            PartCounts(
                rows=len(table),
                rejected=part.rejected_rows,
                truncated=part.truncated,
                positive=rows_of.get("positive", 0),
                tokens=len(part.ids),
                unknown=int(np.count_nonzero(part.ids == UNKNOWN)),
            ),
            histogram=np.histogram(scored.decisive, BINS, (0, 1))[0].tolist(),
            answers=numbers,
            reasons=dict(part.reasons),
            by=count_by(part.kept, self.by, scored.winners, len(self.classes)),
            wordless=_wordless(part.ids, part.offsets),
            probability_sums=probability_sums(scored.columns, self.classes.names),
        )
        rejected = parquet_content(part.rejected) if len(part.rejected) else None
        try:
            result = replace(result, rejected_file=self.write.write_rejected(name, rejected))
            plan = self.plans[part.task.plan]
            content = part_content(table, part.task, result, plan, self.model_hash)
            file = self.write.commit(name, content)
        except (OSError, InputError) as error:
            raise Unavailable(f"it cannot be written: {error}") from error
        stages = (part.seconds, scored_at - began, time.monotonic() - scored_at)
        return replace(result, file=file, seconds=dict(zip(STAGES, stages, strict=True)))

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
            classes=self.classes.names,
            by=self.by,
            sha256="",
            modified=modified,
            rejected_modified=self.write.modified(task.name, "_rejected"),
        )
        (result,) = verify([check])
        is_replaced = result.file is not None and result.file.sha256 == task.replaces
        return None if result.error or is_replaced else result
