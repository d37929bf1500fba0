"""The output directory of a scoring job: its plans, which parts are done, which are missing.

part-000000.parquet ...       scored parts, written atomically: a part that exists is done; with
                              `--partition_by`, here and in _rejected/ below key=value/ directories
_rejected/part-000000.parquet rows of that part that could not be scored
_rejected/shards.parquet      shards that could not be opened
_manifest/plan-00000.parquet ... plans, one for each time that the job found new or changed shards
_manifest/parts-00000.parquet records of the finished parts of each plan (`manifest`)
_manifest/accepted.json       the last `_SUCCESS`, of those that were removed
_manifest/run-*.json          what each run did: flags, counts, seconds
_manifest/report.html         the report (`pipelines.reports.scoring_report`)
_manifest/.staging-*          on a disk: files that are being written; see `fence`
_SUCCESS                      written when no part is missing, with the totals
"""

import hashlib
import itertools
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Failure, Unavailable
from pipelines.scoring import fence, manifest
from pipelines.scoring.comparison import UNREADABLE_SHARDS, compare
from pipelines.scoring.file_listing import Listing
from pipelines.scoring.manifest import Manifest
from pipelines.scoring.part_data import PartResult
from pipelines.scoring.plan import Part, Parts, Plan, plan_file
from pipelines.scoring.plans import Plans
from pipelines.scoring.records import Records
from pipelines.scoring.sealed_parquet import parquet_content
from pipelines.scoring.success import (
    ACCEPTED,
    SUCCESS,
    plans_digest,
    recorded_digest,
    success_content,
)
from pipelines.scoring.totals import Totals
from pipelines.scoring.verify import PartCheck, checks_of
from sentiment import storage
from sentiment.arrow_errors import is_outage, without_details
from sentiment.errors import InputError, on_one_line

REPORT = "report.html"
"""File name of the report in `_manifest/`."""

SAVE_SECONDS, MAX_SAVE_SHARE = 5.0, 0.02
"""Records of finished parts are written this often, and when a run ends; but less often if writing
them would take more than this share of the time."""

CONCURRENT_FILES = 16
"""Plans and records that are read at the same time: a bucket takes time for each."""


class Output:
    """Snapshot of an output directory; `look()` refreshes it.

    `writer`, eight hex digits, is part of the names of partial files that the job writes.

    Raises InputError if the directory cannot be one, or has files but no plan (unless it `is_own`:
    a job of this program was there); and Failure if a plan is damaged.
    """

    def __init__(self, directory: str, is_own: bool = False) -> None:
        self.directory = directory
        self.writer = uuid.uuid4().hex[:8]
        self.plans = Plans()
        self._manifest = Manifest()
        self._read: dict[str, tuple[int, int]] = {}
        """Size and time of those files in `_manifest/` that were read."""
        self._unsaved: list[str] = []
        """Names of parts whose record is not yet written."""
        self._saved = time.monotonic()
        self._save_took = 0.0
        """When they were written last, and how many seconds that took."""
        self.damages: Counter[str] = Counter()
        """How often this job has found a part damaged, by name."""
        self._again: dict[str, tuple[int, str]] = {}
        """Parts that are there and are to be scored again, by name: rows scored, SHA-256 in hex."""
        self.removed: Counter[str] = Counter()
        """What this job has removed to score it again, or for good: `parts`, and `rows` scored."""
        self.made_plans: list[int] = []
        """Numbers of the plans that this job has made."""
        self._staging = ""
        self._was_read = False
        """Whether `look` has succeeded once."""
        # Listed before plans are read: another program may begin here at this moment.
        with self._reading():
            is_used = bool({*storage.names(directory)} - {"_manifest", "_rejected"})
        self.look()
        earlier = self._path("_manifest", "plan-00000.json")
        if is_used and not self.plans and storage.exists(earlier):
            Plan.from_bytes(storage.read(earlier), earlier)  # Raises: it has another format.
        if is_used and not self.plans and not is_own:
            raise InputError(
                f"--output {directory} is not empty, and no job of this program began there: "
                "choose another directory"
            )

    def look(self) -> None:
        """Refresh the snapshot: other programs may plan and score at the same time.

        Raises InputError if the directory cannot be read, Unavailable if it could be read before,
        and Failure if it is gone or another program has overwritten it.
        """
        with self._reading():
            # Parts are listed before plans are read, so every part that is seen has its plan. They
            # are listed before their rejected rows, which are written first.
            parts = Listing.below(self.directory)
            rejected = Listing.below(self._path("_rejected"))
            files = self._manifest_files()
            self._require_plans(files)
            numbers = itertools.count(len(self.plans))
            new = list(itertools.takewhile(files.__contains__, map(plan_file, numbers)))
            if new:
                contents = dict(self._read_all(new, files))
                self.plans = self.plans.followed_by(
                    [
                        Plan.from_bytes(content, self._path("_manifest", name))
                        for name, content in contents.items()
                    ],
                    [_digest(content) for content in contents.values()],
                )
            self._read_manifests(files, range(len(self.plans)))
        self._was_read = True
        self.comparison = compare(self.plans, self._manifest, parts, rejected)
        self._unsaved += self.comparison.dated

    @property
    def is_done(self) -> np.ndarray:
        """bool[parts]: of all plans, whether the part exists, is not damaged, and is not to be
        scored again."""
        done = self.comparison.is_there.copy()
        done[list(self.comparison.damage)] = False
        again = manifest.positions(pa.array([*self._again], pa.string()), self.plans.names)
        done[again[again >= 0]] = False
        return done

    @property
    def missing_parts(self) -> int:
        """The number of parts of all plans that do not exist yet, or are damaged."""
        return int(np.count_nonzero(~self.is_done))

    def missing(self) -> list[Part]:
        """The planned parts that do not exist yet, or are damaged."""
        return [part for number in range(len(self.plans)) for part in self.missing_of(number)]

    def missing_of(self, number: int) -> Parts:
        """Those of one plan."""
        is_missing = ~self.is_done & (self.plans.plan_of == number)
        return self.plans[number].parts.take(self.plans.index_in_plan[is_missing])

    @property
    def complete(self) -> bool:
        """Whether all planned parts are there, unchanged, and `_SUCCESS` was written for them."""
        if not self.plans or not self._is_settled(len(self.plans)):
            return False
        try:
            return recorded_digest(self._path(SUCCESS)) == plans_digest(self.plans.digests)
        except OSError:
            return False

    @property
    def has_success(self) -> bool:
        """Whether `_SUCCESS` is there, whatever it was written for."""
        return storage.exists(self._path(SUCCESS))

    @property
    def staging(self) -> str:
        """The directory in which this job writes files before they are renamed; "": in a bucket.

        Raises what `look` raises, and OSError.
        """
        if not self._staging and fence.has_staging(self.directory):
            with self._locked():
                pass
        return self._staging

    def require_same(self, settings: Mapping[str, object]) -> None:
        """Raise an InputError if the first plan was made with other settings."""
        for plan in self.plans[:1]:
            # Flags that a plan lacks had their defaults then.
            for name in dict.fromkeys([*settings, *plan.settings]):
                before, now = plan.settings.get(name), settings.get(name)
                if before == now:
                    continue
                remedy = "run the same command"
                if name == "model_hash":
                    name, remedy = "model", "pass the --checkpoints_dir of that model"
                    before, now = str(before)[:12], str(now)[:12]
                raise InputError(
                    f"--output {self.directory} was started with another {name} ({before}, now "
                    f"{now}): {remedy}, choose another --output, or pass --overwrite"
                )

    def add(self, plan: Plan) -> None:
        """Write the plan's file. If another program has just written one, use that plan instead.

        `_SUCCESS`, which is true of the earlier plans only, is removed first. Raises InputError if
        the other program's plan has other settings.
        """
        if not self.plans:
            fence.make_directories(self.directory)
        fence.make_partitions(self.directory, [plan])
        # The plan goes on from those that its maker knew. `_locked` may find more.
        number = len(self.plans)
        path = self._path("_manifest", plan_file(number))
        with self._locked():
            self._remove_success()
            if len(plan.changes.retired) and fence.has_staging(self.directory):
                # A job that still runs could write a part again that is retired now.
                fence.close_staging(self.directory)
                self._staging = fence.open_staging(self.directory)
            storage.write_new(path, plan.to_bytes(), self._staging)
            # Where there are no locks, another program may have written `_SUCCESS` in between.
            self._remove_success()
        self.look()
        if self.plans.digests[number] == _digest(plan.to_bytes()):
            self.made_plans.append(number)
            first = len(self.plans.retired) - len(plan.changes.retired)
            self._count_removed(self.plans.retired[first:])
        self.require_same(plan.settings)

    def add_result(self, result: PartResult) -> None:
        """Record a part that was written. Now and then, save the records, if they can be.

        Raises Failure if the output is gone.
        """
        self._manifest.add(result)
        if result.name in self._again:
            rows, _ = self._again.pop(result.name)
            self.removed.update(parts=1, rows=rows)
        self._unsaved.append(result.name)
        if time.monotonic() - self._saved > max(SAVE_SECONDS, self._save_took / MAX_SAVE_SHARE):
            try:
                self.save()
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    # Raises Failure if the output is gone, or another program has overwritten it.
                    self.look()
                # Parts without a record are read at the end: no reason to stop.
                self._saved = time.monotonic()

    def save(self) -> None:
        """Write the records that are not yet written, beside those that other programs have
        written since. Raises OSError."""
        began = time.monotonic()
        unsaved = pa.array(self._unsaved, pa.string())
        planned = manifest.positions(unsaved, self.plans.names)
        numbers = np.unique(self.plans.plan_of[planned[planned >= 0]]).tolist()
        dropped = unsaved.filter(pa.array(self._manifest.find(unsaved) < 0)).to_pylist()
        self._read_manifests(self._manifest_files() if numbers else {}, numbers)
        self._manifest.drop([*dropped, *self._again])
        sizes = {}
        for number in numbers:
            names = self.plans.names_of(number)
            content = self._manifest.content(names, self.plans.digests[number])
            self._write(content, "_manifest", _manifest_name(number))
            sizes[_manifest_name(number)] = content.size
        # What this program has written it need not read.
        files = self._manifest_files() if numbers else {}
        self._read |= {name: at for name, at in files.items() if sizes.get(name) == at[0]}
        self._unsaved = []
        self._saved = time.monotonic()
        self._save_took = self._saved - began

    def planned_at(self, number: int) -> float:
        """When a plan was made, as the time of its file tells: in seconds since 1970."""
        return self._read[plan_file(number)][1] / 1e9

    @property
    def records(self) -> Records:
        """The records of the plans' parts."""
        return Records(self.plans, self._manifest)

    @property
    def has_rejected(self) -> bool:
        """Whether a part has rejected rows, or a shard could not be opened."""
        has_unreadable = any(plan.unreadable for plan in self.plans)
        return has_unreadable or bool(self.records.with_rejected())

    def close(
        self, warnings_of: Callable[[Mapping[str, int]], list[str]] = lambda _: []
    ) -> Totals | None:
        """Write `_SUCCESS` and return the totals; None if a part is missing, or has to be verified.

        `warnings_of` tells what is to know of texts, given the sums of their `PartCounts`. It is
        asked of all parts and of those of the last plan.

        Of the programs on a disk, one at a time adds a plan, removes a part or writes `_SUCCESS`.
        Elsewhere there are no locks: programs that add a plan remove `_SUCCESS` before and after,
        and this method looks for plans before and after it writes `_SUCCESS`. So whichever comes
        last, `_SUCCESS` does not stay while a part is missing.
        """
        self.look()
        plans, totals = len(self.plans), self.records.totals()
        warnings = warnings_of(totals.counts)
        if plans:
            latest = warnings_of(self.records.totals_of(plans - 1).counts)
            warnings += [f"The last shards: {line}" for line in latest if line not in warnings]
        with self._locked():
            self.look()
            if not self._is_settled(plans):
                return None
            labels = dict(zip(self.plans.classes, totals.classes.tolist(), strict=True))
            self.finish({**totals.counts, "labels": labels}, warnings)
            # A plan of the same moment, where there are no locks.
            self.look()
            if not self._is_settled(plans):
                self._remove_success()
                return None
        return totals

    def finish(self, totals: Mapping[str, object], warnings: Sequence[str] = ()) -> None:
        """Write the list of shards that could not be opened, then `_SUCCESS`."""
        self.write_unreadable()
        plans = plans_digest(self.plans.digests)
        self._write(success_content(totals, warnings, plans), SUCCESS)

    def write_unreadable(self) -> None:
        """Write the list of shards that could not be opened, or remove it if there are none."""
        unreadable = self.plans.unreadable()
        if len(unreadable):
            self._write(parquet_content(unreadable), UNREADABLE_SHARDS)
        else:
            storage.remove_if_there(self._path(UNREADABLE_SHARDS))

    def withdraw_success(self) -> None:
        """Remove `_SUCCESS`: the input is no longer what the output was made of. Raises OSError."""
        with self._locked():
            self._remove_success()

    def write_report(self, content: bytes) -> None:
        """Write the report's page."""
        self._write(content, "_manifest", REPORT)

    def record(self, run: dict[str, Any], began_ms: int) -> None:
        """Write a run's record. Its file is named by `began_ms`, milliseconds since 1970."""
        self._write(json.dumps(run, indent=1).encode(), "_manifest", f"run-{began_ms}.json")

    def remove_partial(self) -> None:
        """Remove partial files that no process will finish: this job's, and stale ones."""
        fence.remove_partial(self.directory, self.writer)

    def _require_plans(self, files: Mapping[str, tuple[int, int]]) -> None:
        """Raise Failure unless the plans are those that were read."""
        if self.plans and not files and not storage.exists(self._path("_manifest")):
            raise Failure(f"--output {self.directory} is gone: was it renamed, or unmounted?")
        is_same = not self._staging or storage.exists(self._staging)
        for number, digest in enumerate(self.plans.digests):
            name = plan_file(number)
            # Of a plan that is as old as it was, nothing is read.
            if is_same and files.get(name) != self._read[name]:
                path = self._path("_manifest", name)
                is_same = name in files and _digest(storage.read(path)) == digest
        if not is_same:
            raise Failure(
                f"another program has started --output {self.directory} from scratch, or has "
                "removed parts of it to follow the input: run the same command again"
            )

    def _read_all(
        self, names: Sequence[str], files: Mapping[str, tuple[int, int]]
    ) -> Iterator[tuple[str, bytes]]:
        """Names and contents of files in `_manifest/`, read side by side: a night adds two."""
        with ThreadPoolExecutor(CONCURRENT_FILES) as pool:
            paths = [self._path("_manifest", name) for name in names]
            for name, content in zip(names, pool.map(storage.read, paths), strict=True):
                yield name, content
                self._read[name] = files[name]

    def _manifest_files(self) -> dict[str, tuple[int, int]]:
        """Sizes and times of the files in `_manifest/`, by name. Raises OSError."""
        entries = storage.entries(self._path("_manifest"))
        return {entry.base_name: (entry.size, entry.mtime_ns or 0) for entry in entries}

    def _read_manifests(self, files: Mapping[str, tuple[int, int]], numbers: Sequence[int]) -> None:
        """Read the records of finished parts of some plans, where they are not as they were."""
        number_of = {_manifest_name(number): number for number in numbers}
        changed = [name for name in number_of if files.get(name) != self._read.get(name)]
        records = []
        for name, content in self._read_all([name for name in changed if name in files], files):
            number = number_of[name]
            pieces = np.diff(self.plans[number].parts.starts)
            names = self.plans.names_of(number)
            plan, classes = self.plans.digests[number], len(self.plans.classes)
            records.append(manifest.read(content, plan, names, pieces, classes))
        if records:
            self._manifest.add_older(pa.concat_tables(records))

    def _is_settled(self, plans: int) -> bool:
        """Whether these are all plans, and all their parts are there, recorded and unchanged, and
        no others."""
        is_settled = self.comparison.is_settled and not self.comparison.retired_files()
        return len(self.plans) == plans and is_settled

    def unverified(self, by: tuple[str, ...] = ()) -> list[PartCheck]:
        """A check of each part that has to be read: without a record, or written after it.

        `by`: kept columns by whose values their rows are counted.
        """
        return self._checks_of(self.comparison.suspects, by)

    def checks(self) -> list[PartCheck]:
        """A check of each part that is there, and not damaged as far as a listing tells."""
        return self._checks_of(np.flatnonzero(self.is_done))

    def _checks_of(self, indices: np.ndarray, by: tuple[str, ...] = ()) -> list[PartCheck]:
        return checks_of(self.directory, self.comparison, self._manifest, indices, by)

    def remove_parts(self, names: list[str]) -> None:
        """Remove parts, `_SUCCESS` first, and their records. Raises OSError."""
        files = [f"{name}.parquet" for name in names]
        self.remove_files([*files, *(f"_rejected/{file}" for file in files)])
        self._count_removed(pa.array(names, pa.string()))
        self._manifest.drop(names)
        self._unsaved += names

    def score_again(self, names: list[str]) -> None:
        """Count parts that are there as missing, until they are written again in their places; so
        no row is missing meanwhile. `_SUCCESS` is removed. Raises OSError.

        Their records are forgotten: should they not be written, they are verified by the next run.
        """
        with self._locked():
            self._remove_success()
        records = pa.array(self._manifest.find(pa.array(names, pa.string())))
        for name, record in zip(names, self._manifest.table.take(records).to_pylist(), strict=True):
            self._again[name] = record["rows"], record["sha256"].hex()
        self._manifest.drop(names)

    def replaced_by(self, part: str) -> str:
        """SHA-256, in hex, of the file that a part replaces; "": it replaces none."""
        _, sha256 = self._again.get(part, (0, ""))
        return sha256

    def _count_removed(self, names: pa.Array) -> None:
        """Count parts that are removed, string[n], as far as they were done and recorded."""
        # Of those that were to be scored again the records are forgotten.
        again = self._again.keys() & set(names.to_pylist() if self._again else ())
        self.removed.update(parts=len(again), rows=sum(self._again.pop(name)[0] for name in again))
        rows = self._manifest.find(names)
        rows = rows[rows >= 0]
        scored = self._manifest.table["rows"].take(pa.array(rows))
        self.removed.update(parts=len(rows), rows=pc.sum(scored).as_py() or 0)

    def remove_files(self, paths: list[str]) -> None:
        """Remove files, given as paths below the output, `_SUCCESS` first. Raises OSError."""
        with self._locked():
            self._remove_success()
            fence.remove(self.directory, paths)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Context manager: of the programs on this output, one runs its block (on a disk).

        Raises what `look` raises if another program has overwritten the output, and OSError.
        """
        with fence.locked(self.directory):
            if fence.has_staging(self.directory):
                if not self._staging:
                    self.look()
                    self._staging = fence.open_staging(self.directory)
                    fence.make_partitions(self.directory, self.plans)
                elif not storage.exists(self._staging):
                    self.look()
            yield

    def _write(self, content: bytes | pa.Buffer, *names: str) -> None:
        storage.write(self._path(*names), content, self.staging, self.writer)

    def _remove_success(self) -> None:
        """Remove `_SUCCESS`, and keep what it has accepted."""
        path = self._path(SUCCESS)
        if recorded_digest(path):
            self._write(storage.read(path), "_manifest", ACCEPTED)
        storage.remove_if_there(path)

    def _path(self, *names: str) -> str:
        return storage.join(self.directory, *filter(None, names))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Context manager: turn OSErrors into a line about the directory: Unavailable, or an
        InputError if it could never be read and will not be another time, either."""
        try:
            yield
        except OSError as error:
            reason = without_details(on_one_line(error))
            message = f"--output {self.directory} cannot be read: {reason}"
            is_misuse = isinstance(error, PermissionError | NotADirectoryError)
            # Of a bucket's errors, only those of its server pass: not a wrong name or key. But keys
            # that were right may have expired.
            is_refusal = "://" in self.directory and not is_outage(error)
            if (is_misuse or is_refusal) and not self._was_read:
                raise InputError(message) from error
            if is_refusal:
                message += "; if its keys have expired, renew them"
            raise Unavailable(message) from error


def require_own(directory: str) -> None:
    """Raise InputError if the directory has files and no job of this program began there, and
    Failure if it cannot be read."""
    try:
        is_own = fence.has_plan(directory)
    except OSError as error:
        message = without_details(on_one_line(error))
        raise Failure(f"--output {directory} cannot be read: {message}") from error
    if not is_own:
        Output(directory)


def overwrite(directory: str) -> Output:
    """Remove the files that a job of this program wrote, and no others. Returns the output.

    Raises InputError if the directory cannot be read, and Failure if a file cannot be removed.
    """
    try:
        return Output(directory, is_own=fence.clear(directory))
    except OSError as error:
        raise Failure(f"--output {directory} cannot be written: {on_one_line(error)}") from error


@contextmanager
def writing(output: Output) -> Iterator[None]:
    """Context manager: turn OSErrors into a one-line Failure about --output."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            # Raises Failure if the output is gone, or another program has overwritten it.
            output.look()
        raise Failure(f"--output {output.directory} cannot be written: {error}") from error


def _manifest_name(number: int) -> str:
    return f"parts-{number:05d}.parquet"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
