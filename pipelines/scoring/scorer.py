"""Scores a tokenized part and writes its files."""

import json
from dataclasses import asdict, dataclass, replace
from socket import gethostname

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import Failure
from pipelines.scoring.output import METADATA, remove_if_there
from pipelines.scoring.part_data import PartCounts, PartResult, PartTask, TokenizedPart
from pipelines.scoring.reader import PartReader
from pipelines.scoring.totals import BINS
from sentiment import storage
from sentiment.errors import InputError
from sentiment.model.inference import Inference
from sentiment.text.tokenizer import UNKNOWN


@dataclass(frozen=True)
class PartScorer:
    """Scores and writes parts. A part's file appears only when it is whole."""

    infer: Inference
    output: str
    """The output directory."""
    model_hash: str
    writer: str = ""
    """`Output.writer` of the job."""

    def __call__(self, part: TokenizedPart) -> PartResult:
        """Score a part and write its files."""
        name = part.task.name
        probabilities = self.infer(part.ids, part.offsets)
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
        )
        footer = {
            "model_hash": self.model_hash,
            "pieces": [[shard.path, span.first, span.rows] for shard, span in part.task.pieces],
            "counts": asdict(result.counts),
            "histogram": np.histogram(probabilities, BINS, (0, 1))[0].tolist(),
            "answers": _rows_and_positives(is_positive, part.piece_rows),
            "reasons": dict(part.reasons),
        }
        table = table.replace_schema_metadata({METADATA: json.dumps(footer, sort_keys=True)})
        try:
            self._write(name, table, part.rejected)
        except (OSError, InputError) as error:
            # Returned, since Ray Data's error for an actor's exception does not have its cause.
            return replace(result, error=f"{name} could not be written: {error}")
        return result

    def _write(self, name: str, table: pa.Table, rejected: pa.Table) -> None:
        """Write the part's files, the one that commits it last."""
        # A node that joined later may have a local directory of that name. A bucket is the same
        # for all nodes, and to check it costs a request.
        is_local = isinstance(storage.resolve(self.output)[0], pafs.LocalFileSystem)
        if is_local and not storage.exists(storage.join(self.output, "_manifest")):
            raise OSError(f"node {gethostname()} does not see --output {self.output}")
        rejected_path = storage.join(self.output, "_rejected", f"{name}.parquet")
        if len(rejected):
            self._write_table(rejected, rejected_path)
        else:
            # An earlier attempt may have left the file, when a shard could not be read.
            remove_if_there(rejected_path)
        self._write_table(table, storage.join(self.output, f"{name}.parquet"))

    def _write_table(self, table: pa.Table, path: str) -> None:
        with storage.writing(path, self.writer) as file:
            pq.write_table(table, file, compression="zstd")


@dataclass(frozen=True)
class PartWorker:
    """Reads, scores and writes a part in one process (CPU jobs)."""

    reader: PartReader
    scorer: PartScorer

    def __call__(self, task: PartTask) -> PartResult:
        """Read, score and write a part."""
        try:
            part = self.reader(task)
        except Failure as error:
            return PartResult(task.name, PartCounts(), str(error))
        return self.scorer(part)


def _rows_and_positives(
    is_positive: npt.NDArray[np.bool_], piece_rows: npt.NDArray[np.int64]
) -> list[list[int]]:
    """For each piece: number of rows, and number of positive rows.

    Args:
        is_positive: bool[rows].
        piece_rows: int64[pieces], which sums up to `rows`.
    """
    positives_before = np.concatenate([[0], np.cumsum(is_positive)])
    ends = np.cumsum(piece_rows)
    positives = positives_before[ends] - positives_before[ends - piece_rows]
    return [[int(rows), int(count)] for rows, count in zip(piece_rows, positives, strict=True)]
