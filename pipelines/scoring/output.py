"""The output directory of a scoring job: whose it is, what is done, what is missing.

part-000000.parquet ...       the scored parts; each appears whole, and is then done
_rejected/part-000000.parquet rows of that part that could not be scored
_rejected/shards.parquet      shards that could not be opened
_manifest/plan-00000.json ... the plans, one for each time that shards were new
_manifest/run-*.json          what each run did: flags, counts, seconds
_manifest/report.html         all of it for people to look at (`pipelines.reports.scoring_report`)
_SUCCESS                      written when nothing is missing, with the totals
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import Failure
from pipelines.scoring.plan import Part, Plan
from pipelines.scoring.totals import Totals
from pipelines.sources.shard import Shard
from sentiment import storage
from sentiment.errors import UNREADABLE, InputError, on_one_line

REJECTED = pa.schema(
    [
        pa.field("shard", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.large_binary()),
    ]
)
"""Of the files in `_rejected/`. Rows count from 1; null: all of a shard, or of a part's share."""

METADATA = b"sentiment.part"
"""Key of a part's provenance and counts, JSON, in its Parquet footer."""

COUNTS = ("rows", "rejected", "truncated", "positive", "tokens", "unknown")
"""Of a part: rows scored, rows rejected, and of the texts scored those cut to `--max_tokens`,
those found positive, their tokens, and those of them that the vocabulary lacks. Rows scored and
rows rejected are all its rows."""

REPORT = "report.html"
"""In `_manifest/`."""

FILES_AT_ONCE = 16
"""Files read or removed at once: a bucket takes its time for each."""

STALE = 3600.0
"""Seconds after which a partial file is taken for one whose writer died."""

_NAMES = r"part-\d{6,}\.parquet|shards\.parquet|plan-\d{5,}\.json|run-\d+\.json|report\.html"
_NAMES += r"|_SUCCESS|writable"
# An actor's carries two numbers, its job's and its own. So does, with two dots, a file that is
# linked into place: it is written under a dot-name of the dot-name.
_PARTIAL = re.compile(rf"\.{{1,2}}({_NAMES})(\.[0-9a-f]{{8}}){{1,2}}")


class Output:
    """An output directory as it was when it was looked at.

    `writer`, eight hex digits, stands in the names of partial files that the job's actors write.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.writer = uuid.uuid4().hex[:8]
        self.plans: list[Plan] = []
        self._digests: list[bytes] = []
        self.look()
        if self._present - {"_manifest", "_rejected"} and not self.plans:
            raise InputError(
                f"--output {directory} is not empty, and no job of this program began there: "
                "choose another directory"
            )

    def look(self) -> None:
        """Look again: other programs plan and score too.

        Raises InputError where it cannot be read, or another program has begun it anew.
        """
        with self._reading():
            # In this order: where a part is seen, so is the plan that was there before it.
            self._present = set(storage.names(self.directory))
            for number, digest in enumerate(self._digests):
                path = self._plan_path(number)
                if not storage.exists(path) or _digest(storage.read(path)) != digest:
                    raise InputError(
                        f"another program has begun --output {self.directory} anew: "
                        "run one of them alone"
                    )
            while storage.exists(path := self._plan_path(len(self.plans))):
                self._take(path)

    @property
    def parts(self) -> list[Part]:
        """All parts that are planned."""
        return [part for plan in self.plans for part in plan.parts]

    def missing(self) -> list[tuple[Part, Plan]]:
        """The parts that are planned and not there, each with its plan."""
        return [
            (part, plan)
            for plan in self.plans
            for part in plan.parts
            if f"{part.name}.parquet" not in self._present
        ]

    @property
    def complete(self) -> bool:
        """Whether it says of itself that nothing is missing."""
        return "_SUCCESS" in self._present and bool(self.plans) and not self.missing()

    def require_same(self, settings: dict[str, Any]) -> None:
        """Raise an InputError if the job was begun with settings that give other answers."""
        for plan in self.plans[:1]:
            for name, value in settings.items():
                if plan.settings.get(name) != value:
                    raise InputError(
                        f"--output {self.directory} was begun with another {name} "
                        f"({plan.settings.get(name)}, now {value}): run the same command, "
                        "choose another --output, or pass --overwrite"
                    )

    def new_shards(self, shards: list[Shard]) -> list[Shard]:
        """Those of the shards that no plan holds. Raises InputError if a planned one changed.

        A shard that could not be opened and has changed since counts as new.
        """
        planned: dict[str, tuple[Shard, bool]] = {}
        for plan in self.plans:
            for index, shard in enumerate(plan.shards):
                planned[shard.path] = (shard, index not in plan.unreadable)
        new = []
        for shard in shards:
            before, readable = planned.get(shard.path, (None, False))
            if before is not None and before != shard and readable:
                raise InputError(
                    f"{shard.path} has changed since --output {self.directory} was begun "
                    f"({before.size:,} bytes then, {shard.size:,} now, or written again): "
                    "choose another --output, or pass --overwrite"
                )
            if before != shard:
                new.append(shard)
        return new

    def add(self, plan: Plan) -> None:
        """Make the plan durable, unless another program has just made one: then take that.

        `_SUCCESS`, of the plans before it, goes first. Raises InputError if the other program
        began the job with other settings.
        """
        path = self._plan_path(len(self.plans))
        self._remove_success()
        storage.write_new(path, plan.to_json())
        # Another program may have ended between these two; see `close`.
        self._remove_success()
        self._take(path)
        self.require_same(plan.settings)

    def unreadable(self) -> pa.Table:
        """The shards that could not be opened, as rejected."""
        latest: dict[str, str | None] = {}
        for plan in self.plans:
            for index, shard in enumerate(plan.shards):
                latest[shard.path] = plan.unreadable.get(index)
        rows = [
            {"shard": path, "row": None, "reason": reason, "raw": None}
            for path, reason in latest.items()
            if reason is not None
        ]
        return pa.Table.from_pylist(rows, REJECTED)

    def totals(self, parts: Sequence[Part]) -> Totals:
        """The sums over parts that are there, read from their footers.

        Raises InputError unless each part is what its plan says: of this model, from these rows,
        every one of them counted as scored or rejected.
        """
        with self._reading():
            rejected = set(self._names("_rejected"))
        numbers = {
            part.name: number for number, plan in enumerate(self.plans) for part in plan.parts
        }
        totals = Totals(self.plans)
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            for part, footer in zip(parts, pool.map(self._provenance, parts), strict=True):
                counts, number = footer["counts"], numbers[part.name]
                shards = self.plans[number].shards
                pieces = [[shards[p.shard].path, p.span.first, p.span.rows] for p in part.pieces]
                planned = (self.plans[0].settings["model_hash"], pieces, part.rows)
                found = (footer.get("model_hash"), footer.get("pieces"))
                rows = counts.get("rows", 0) + counts.get("rejected", 0)
                if (*found, rows) != planned:
                    raise self._not_the_part(part, "it holds other rows, or is of another model")
                if counts.get("rejected") and f"{part.name}.parquet" not in rejected:
                    raise self._not_the_part(part, "its rejected rows are not in _rejected/")
                totals.add(part, number, footer)
        return totals

    def close(self) -> Totals | None:
        """Mark the output as whole, and return its totals; None if something is missing.

        Other programs may plan more at any moment. They remove `_SUCCESS` before and after they
        write a plan, this looks for plans before and after it writes `_SUCCESS`: whichever comes
        last, none is left beside a part that is missing.
        """
        self.look()
        while not self.missing():
            totals = self.totals(self.parts)
            known = len(self.plans)
            self.finish(dict(totals.counts))
            self.look()
            if len(self.plans) == known and not self.missing():
                return totals
            self._remove_success()
        return None

    def finish(self, totals: dict[str, int]) -> None:
        """Write what is left: the shards that could not be opened, and `_SUCCESS`."""
        unreadable = self.unreadable()
        path = storage.join(self.directory, "_rejected", "shards.parquet")
        if len(unreadable):
            with storage.writing(path) as file:
                pq.write_table(unreadable, file)
        else:
            remove_if_there(path)
        success = json.dumps(totals, indent=1).encode()
        storage.write(storage.join(self.directory, "_SUCCESS"), success)

    def write_report(self, content: bytes) -> None:
        """Write the report's page."""
        storage.write(storage.join(self.directory, "_manifest", REPORT), content)

    def record(self, run: dict[str, Any], began: int) -> None:
        """Write a run's record; `began`, in Unix milliseconds, names it."""
        path = storage.join(self.directory, "_manifest", f"run-{began}.json")
        storage.write(path, json.dumps(run, indent=1).encode())

    def clear(self) -> None:
        """Remove what a job of this program wrote, `_SUCCESS` first, and nothing else."""
        if not self.plans:
            return
        self._remove(["_SUCCESS"])
        parts = [f"{part.name}.parquet" for part in self.parts]
        rejected = [f"_rejected/{name}" for name in [*parts, "shards.parquet"]]
        runs = [f"_manifest/{name}" for name in self._names("_manifest") if name[:4] == "run-"]
        self._remove([*parts, *rejected, *runs, f"_manifest/{REPORT}"])
        # The first plan says whose directory it is: should the program die here, run it again.
        for number in reversed(range(len(self.plans))):
            storage.remove(self._plan_path(number))
        self.plans, self._digests = [], []
        self._present = set(storage.names(self.directory))

    def _remove(self, names: list[str]) -> None:
        """Remove those that are there, some at a time."""
        there = set(storage.names(self.directory))
        for below in ("_manifest", "_rejected"):
            there |= {f"{below}/{name}" for name in self._names(below)}
        paths = [storage.join(self.directory, name) for name in names if name in there]
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            list(pool.map(storage.remove, paths))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = on_one_line(error)
            raise InputError(f"--output {self.directory} cannot be read: {said}") from error

    def _remove_success(self) -> None:
        remove_if_there(storage.join(self.directory, "_SUCCESS"))
        self._present.discard("_SUCCESS")

    def remove_partial(self) -> None:
        """Remove partial files that nobody will finish: this job's, and stale ones.

        Another job may still be writing a younger one. Buckets have none.
        """
        filesystem, directory = storage.resolve(self.directory)
        if not isinstance(filesystem, pafs.LocalFileSystem):
            return
        found: list[Path] = []
        for below in ("", "_manifest", "_rejected"):
            # What cannot be read or removed harms no reader; what went wrong before is to be said.
            with suppress(OSError):
                found += Path(directory, below).glob(".*")
        for path in found:
            if _PARTIAL.fullmatch(path.name):
                with suppress(OSError):
                    mine = f".{self.writer}." in path.name
                    if mine or time.time() - path.stat().st_mtime > STALE:
                        path.unlink()

    def _take(self, path: str) -> None:
        content = storage.read(path)
        self.plans.append(Plan.from_json(content, path))
        self._digests.append(_digest(content))

    def _provenance(self, part: Part) -> dict[str, Any]:
        """What the footer of a part that is there says of it."""
        filesystem, inner = storage.resolve(self._part_path(part))
        try:
            with filesystem.open_input_file(inner) as file:
                said = json.loads((pq.read_metadata(file).metadata or {})[METADATA])
            counts = {name: int(number) for name, number in dict(said["counts"]).items()}
            return {**said, "counts": counts}
        except (*UNREADABLE, pa.ArrowException, OSError) as error:
            if storage.is_away(error):
                raise  # It may well be.
            raise self._not_the_part(part, error) from error

    def _not_the_part(self, part: Part, why: object) -> InputError:
        return InputError(
            f"{self._part_path(part)} is not the part that was written "
            f"({on_one_line(why)}): remove it, and run again"
        )

    def _part_path(self, part: Part) -> str:
        return storage.join(self.directory, f"{part.name}.parquet")

    def _names(self, below: str) -> list[str]:
        return storage.names(storage.join(self.directory, below))

    def _plan_path(self, number: int) -> str:
        return storage.join(self.directory, "_manifest", f"plan-{number:05d}.json")


@contextmanager
def writing(output: Output) -> Iterator[None]:
    """Context manager: turn OSErrors into a one-line Failure about --output."""
    try:
        yield
    except OSError as error:
        raise Failure(f"--output {output.directory} cannot be written: {error}") from error


def remove_if_there(path: str) -> None:
    """Remove a file unless it is gone, or another program is quicker."""
    if storage.exists(path):
        with suppress(FileNotFoundError):
            storage.remove(path)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
