"""A corpus that changes from night to night, and the real scoring job on it, without Ray."""

import io
import json
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.executor import Executor, LocalExecutor
from pipelines.scoring.job import run
from pipelines.scoring.output import Output
from pipelines.sources.listing import find_shards
from sentiment.checkpoint import Checkpoint


class Lake:
    """A corpus of small shards, and the output of the job on it.

    Args:
        root: A directory, for both.
        model: What scores.
        corpus: A corpus that is there; None: an empty one is made.
        flags: Of each night.
    """

    def __init__(
        self, root: Path, model: Checkpoint, corpus: Path | None = None, **flags: object
    ) -> None:
        self.corpus, self.scored = corpus or root / "corpus", root / "scored"
        self.corpus.mkdir(exist_ok=corpus is not None)
        self.model = model
        self.flags = flags
        self.read: list[str] = []
        """The parts that the last night scored."""

    def put(self, name: str, *ids: str) -> Path:
        """Write a shard with these ids; the name tells its format."""
        path = self.corpus / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.table({"id": ids, "text": [f"word{i}" for i in ids]}), path)
        else:
            path.write_text("\n".join(["id,text", *(f"{i},word{i}" for i in ids), ""]))
        return path

    def night(self, *inputs: Path, executor: Executor | None = None, **flags: object) -> str:
        """Run the job; what it says."""
        inputs = inputs or (self.corpus,)
        config = ScoreConfig(
            checkpoints_dir="",
            input=tuple(map(str, inputs)),
            output=str(self.scored),
            part_rows=10,
            **(self.flags | flags),
        )
        output = Output(str(self.scored))
        output.require_same(config.settings(self.model.model_hash, self.model.classes.names))
        before = set(self.parts())
        shards = find_shards(config.input, "--input")
        with redirect_stdout(io.StringIO()) as said:
            try:
                run(config, self.model, output, shards, executor or LocalExecutor())
            finally:
                self.read = sorted(set(self.parts()) - before)
        assert (self.scored / "_SUCCESS").exists()
        totals = json.loads((self.scored / "_SUCCESS").read_text())
        assert totals["rows"] == self.ids().total()
        assert Output(str(self.scored)).complete
        return said.getvalue()

    def parts(self) -> list[str]:
        """The parts that are there, as paths below the output."""
        return [path.relative_to(self.scored).as_posix() for path in self._paths()]

    def ids(self) -> Counter[str]:
        """How often each id is in the output."""
        return Counter(
            i
            for path in self._paths()
            for i in pq.read_table(path, partitioning=None)["id"].to_pylist()
        )

    def _paths(self) -> list[Path]:
        paths = sorted(self.scored.rglob("part-*.parquet"))
        return [path for path in paths if self.scored / "_rejected" not in path.parents]
