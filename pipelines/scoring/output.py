"""The output directory of a scoring job: its plans, which parts are done, which are missing.

part-000000.parquet ...       scored parts, written atomically: a part that exists is done
_rejected/part-000000.parquet rows of that part that could not be scored
_rejected/shards.parquet      shards that could not be opened
_manifest/plan-00000.parquet ...  plans, one for each time that the job found new shards
_manifest/run-*.json          what each run did: flags, counts, seconds
_manifest/report.html         the report (`pipelines.reports.scoring_report`)
_SUCCESS                      written when no part is missing, with the totals
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import Failure
from pipelines.scoring.plan import Part, Plan, plan_file
from pipelines.scoring.totals import Totals
from pipelines.sources.shard import Shard
from sentiment import arrow_errors, storage
from sentiment.errors import UNREADABLE, InputError, on_one_line

REJECTED = pa.schema(
    [
        pa.field("shard", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.large_binary()),
        pa.field("raw_bytes", pa.int64()),
    ]
)
"""Schema of the files in `_rejected/`. Rows are counted from 1; null: all rows of a shard, or all
of them that a part has. `raw` is the row (CSV) or text (Parquet), or its first 64 KiB, and null
beyond 64 MiB of a part; `raw_bytes` is its length, which is always there."""

METADATA = b"sentiment.part"
"""Key of a part's provenance and counts, JSON, in its Parquet footer."""

REPORT = "report.html"
"""File name of the report in `_manifest/`."""

CONCURRENT_FILES = 16
"""Files that are read or removed at the same time: a bucket takes time for each."""

STALE_SECONDS = 3600.0
"""Age at which a partial file counts as one whose writer died."""

_NAMES = r"part-\d{6,}\.parquet|shards\.parquet|plan-\d{5,}\.parquet|run-\d+\.json|report\.html"
_NAMES += r"|counts-[0-9a-f]{8}\.parquet|_SUCCESS|writable"
# The name of a partial file: a dot, the final name, the job's number if an actor writes it, and a
# random number. A file that is linked into place has a dot-name of a dot-name.
_PARTIAL = re.compile(rf"\.{{1,2}}({_NAMES})(\.[0-9a-f]{{8}}){{1,2}}")


class Output:
    """Snapshot of an output directory; `look()` refreshes it.

    `writer`, eight hex digits, is part of the names of partial files that the job's actors write.

    Raises InputError if the directory cannot be read, or has files but no plan.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.writer = uuid.uuid4().hex[:8]
        self.plans: list[Plan] = []
        self._digests: list[bytes] = []
        self.look()
        if self._present and not self.plans:
            earlier = storage.join(directory, "_manifest", "plan-00000.json")
            if storage.exists(earlier):
                Plan.from_bytes(storage.read(earlier), earlier)  # Raises: it has another format.
        if self._present - {"_manifest", "_rejected"} and not self.plans:
            raise InputError(
                f"--output {directory} is not empty, and no job of this program began there: "
                "choose another directory"
            )

    def look(self) -> None:
        """Refresh the snapshot: other programs may plan and score at the same time.

        Raises InputError if the directory cannot be read, or another program has overwritten it.
        """
        with self._reading():
            # Parts are listed before plans are read, so every part that is seen has its plan.
            self._present = set(storage.names(self.directory))
            for number, digest in enumerate(self._digests):
                path = self._plan_path(number)
                if not storage.exists(path) or _digest(storage.read(path)) != digest:
                    raise InputError(
                        f"another program has started --output {self.directory} from scratch: "
                        "run one of them alone"
                    )
            while storage.exists(path := self._plan_path(len(self.plans))):
                self._take(path)

    @property
    def parts(self) -> list[Part]:
        """The parts of all plans."""
        return [part for plan in self.plans for part in plan.parts]

    def missing(self) -> list[Part]:
        """The planned parts that do not exist yet."""
        return [part for plan in self.plans for part in self.missing_of(plan)]

    def missing_of(self, plan: Plan) -> list[Part]:
        """The parts of one plan that do not exist yet."""
        return [part for part in plan.parts if f"{part.name}.parquet" not in self._present]

    @property
    def complete(self) -> bool:
        """Whether `_SUCCESS` and all planned parts exist."""
        return "_SUCCESS" in self._present and bool(self.plans) and not self.missing()

    def require_same(self, settings: Mapping[str, object]) -> None:
        """Raise an InputError if the first plan was made with other settings."""
        for plan in self.plans[:1]:
            for name, value in settings.items():
                if plan.settings.get(name) != value:
                    raise InputError(
                        f"--output {self.directory} was started with another {name} "
                        f"({plan.settings.get(name)}, now {value}): run the same command, "
                        "choose another --output, or pass --overwrite"
                    )

    def new_shards(self, shards: list[Shard]) -> list[Shard]:
        """Those shards that are in no plan. Raises InputError if a planned shard has changed.

        A shard that could not be opened and has changed since then counts as new.
        """
        planned: dict[str, Shard] = {}
        unreadable: set[str] = set()
        for plan in self.plans:
            for index, shard in enumerate(plan.shards):
                planned[shard.path] = shard
                if index in plan.unreadable:
                    unreadable.add(shard.path)
                else:
                    unreadable.discard(shard.path)
        new = []
        for shard in shards:
            as_planned = planned.get(shard.path)
            if as_planned == shard:
                continue
            if as_planned is not None and shard.path not in unreadable:
                raise InputError(
                    f"{shard.path} has changed since --output {self.directory} was started "
                    f"({as_planned.size:,} bytes then, {shard.size:,} now, or written again): "
                    "choose another --output, or pass --overwrite"
                )
            new.append(shard)
        return new

    def add(self, plan: Plan) -> None:
        """Write the plan's file. If another program has just written one, use that plan instead.

        `_SUCCESS`, which is true of the earlier plans only, is removed first. Raises InputError if
        the other program's plan has other settings.
        """
        path = self._plan_path(len(self.plans))
        self._remove_success()
        storage.write_new(path, plan.to_bytes())
        # Another program may have written `_SUCCESS` between these two lines; see `close`.
        self._remove_success()
        self._take(path)
        self.require_same(plan.settings)

    def unreadable(self) -> pa.Table:
        """The shards that could not be opened, as a table with the schema REJECTED."""
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
        """Sums over parts that exist, read from their footers.

        Raises InputError if a part is not what its plan says: of this model, made from these rows,
        with every row counted as scored or rejected.
        """
        with self._reading():
            rejected = set(self._names("_rejected"))
        numbers = {
            part.name: number for number, plan in enumerate(self.plans) for part in plan.parts
        }
        totals = Totals(self.plans)
        with ThreadPoolExecutor(CONCURRENT_FILES) as pool:
            for part, footer in zip(parts, pool.map(self._provenance, parts), strict=True):
                counts, number = footer["counts"], numbers[part.name]
                shards = self.plans[number].shards
                pieces = [[shards[p.shard].path, p.span.first, p.span.rows] for p in part.pieces]
                planned = (self.plans[0].settings["model_hash"], pieces, part.rows)
                rows = counts.get("rows", 0) + counts.get("rejected", 0)
                if (footer.get("model_hash"), footer.get("pieces"), rows) != planned:
                    raise self._not_the_part(part, "it holds other rows, or is of another model")
                if counts.get("rejected") and f"{part.name}.parquet" not in rejected:
                    raise self._not_the_part(part, "its rejected rows are not in _rejected/")
                totals.add(part, number, footer)
        return totals

    def close(self) -> Totals | None:
        """Write `_SUCCESS` and return the totals; None if a part is missing.

        Other programs may add plans at any time. They remove `_SUCCESS` before and after they write
        a plan. This method looks for new plans before and after it writes `_SUCCESS`. So whichever
        comes last, `_SUCCESS` does not stay while a part is missing.
        """
        self.look()
        while not self.missing():
            totals = self.totals(self.parts)
            plans = len(self.plans)
            self.finish(dict(totals.counts))
            self.look()
            if len(self.plans) == plans and not self.missing():
                return totals
            self._remove_success()
        return None

    def finish(self, totals: dict[str, int]) -> None:
        """Write the list of shards that could not be opened, then `_SUCCESS`."""
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

    def record(self, run: dict[str, Any], began_ms: int) -> None:
        """Write a run's record. Its file is named by `began_ms`, milliseconds since 1970."""
        path = storage.join(self.directory, "_manifest", f"run-{began_ms}.json")
        storage.write(path, json.dumps(run, indent=1).encode())

    def clear(self) -> None:
        """Remove the files that a job of this program wrote, `_SUCCESS` first, and no others."""
        if not self.plans:
            return
        self._remove(["_SUCCESS"])
        parts = [f"{part.name}.parquet" for part in self.parts]
        rejected = [f"_rejected/{name}" for name in [*parts, "shards.parquet"]]
        runs = [
            f"_manifest/{name}"
            for name in self._names("_manifest")
            if name.startswith(("run-", "counts-"))
        ]
        self._remove([*parts, *rejected, *runs, f"_manifest/{REPORT}"])
        # The first plan is last: it marks the directory as an output, so if the program dies here,
        # it can be run again.
        for number in reversed(range(len(self.plans))):
            storage.remove(self._plan_path(number))
        self.plans, self._digests = [], []
        self._present = set(storage.names(self.directory))

    def _remove(self, names: list[str]) -> None:
        """Remove those of the files that exist."""
        existing = set(storage.names(self.directory))
        for below in ("_manifest", "_rejected"):
            existing |= {f"{below}/{name}" for name in self._names(below)}
        paths = [storage.join(self.directory, name) for name in names if name in existing]
        with ThreadPoolExecutor(CONCURRENT_FILES) as pool:
            list(pool.map(storage.remove, paths))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Context manager: turn OSErrors into a one-line InputError about --output."""
        try:
            yield
        except OSError as error:
            message = on_one_line(error)
            raise InputError(f"--output {self.directory} cannot be read: {message}") from error

    def _remove_success(self) -> None:
        remove_if_there(storage.join(self.directory, "_SUCCESS"))
        self._present.discard("_SUCCESS")

    def remove_partial(self) -> None:
        """Remove partial files that no process will finish: this job's, and stale ones.

        Another job may still be writing the others. Buckets have no partial files.
        """
        filesystem, directory = storage.resolve(self.directory)
        if not isinstance(filesystem, pafs.LocalFileSystem):
            return
        hidden: list[Path] = []
        for below in ("", "_manifest", "_rejected"):
            # A partial file that stays harms no reader, and an error here would hide the first one.
            with suppress(OSError):
                hidden += Path(directory, below).glob(".*")
        for path in hidden:
            if _PARTIAL.fullmatch(path.name):
                with suppress(OSError):
                    mine = f".{self.writer}." in path.name
                    if mine or time.time() - path.stat().st_mtime > STALE_SECONDS:
                        path.unlink()

    def _take(self, path: str) -> None:
        content = storage.read(path)
        self.plans.append(Plan.from_bytes(content, path))
        self._digests.append(_digest(content))

    def _provenance(self, part: Part) -> dict[str, Any]:
        """The JSON in a part's footer, its counts checked."""
        filesystem, inner = storage.resolve(self._part_path(part))
        try:
            with filesystem.open_input_file(inner) as file:
                footer = json.loads((pq.read_metadata(file).metadata or {})[METADATA])
            counts = {name: int(number) for name, number in dict(footer["counts"]).items()}
            return {**footer, "counts": counts}
        except (*UNREADABLE, pa.ArrowException, OSError) as error:
            if arrow_errors.is_outage(error):
                raise  # An outage, and the part may be good.
            raise self._not_the_part(part, error) from error

    def _not_the_part(self, part: Part, reason: object) -> InputError:
        return InputError(
            f"{self._part_path(part)} is not the part that was written "
            f"({on_one_line(reason)}): remove it, and run again"
        )

    def _part_path(self, part: Part) -> str:
        return storage.join(self.directory, f"{part.name}.parquet")

    def _names(self, below: str) -> list[str]:
        return storage.names(storage.join(self.directory, below))

    def _plan_path(self, number: int) -> str:
        return storage.join(self.directory, "_manifest", plan_file(number))


@contextmanager
def writing(output: Output) -> Iterator[None]:
    """Context manager: turn OSErrors into a one-line Failure about --output."""
    try:
        yield
    except OSError as error:
        raise Failure(f"--output {output.directory} cannot be written: {error}") from error


def remove_if_there(path: str) -> None:
    """Remove a file if it exists; another program may remove it at the same time."""
    if storage.exists(path):
        with suppress(FileNotFoundError):
            storage.remove(path)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
