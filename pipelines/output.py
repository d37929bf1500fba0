"""The output directory of a scoring job: whose it is, what is done, what is missing.

part-000000.parquet ...       the scored parts; each appears whole, and is then done
_rejected/part-000000.parquet rows of that part that could not be scored
_rejected/shards.parquet      shards that could not be opened
_manifest/plan-00000.json ... the plans, one for each time that shards were new
_manifest/run-*.json          what each run did: flags, counts, seconds
_SUCCESS                      written when nothing is missing, with the totals
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.plan import Part, Plan
from pipelines.shards import Shard
from sentiment import storage
from sentiment.errors import InputError

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

REMOVALS = 16
"""Files removed at once."""


class Output:
    """An output directory as it was when it was looked at."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.plans: list[Plan] = []
        try:
            while (path := self._plan_path(len(self.plans))) and storage.exists(path):
                self.plans.append(Plan.from_json(storage.read(path), path))
            self._present = set(storage.names(directory))
        except OSError as error:
            message = " ".join(str(error).split())
            raise InputError(f"--output {directory} cannot be read: {message}") from error
        if self._present - {"_manifest", "_rejected"} and not self.plans:
            raise InputError(
                f"--output {directory} is not empty, and no job of this program began there: "
                "choose another directory"
            )

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
        success = storage.join(self.directory, "_SUCCESS")
        if storage.exists(success):
            storage.remove(success)
        self._present.discard("_SUCCESS")
        storage.write_new(path, plan.to_json())
        self.plans.append(Plan.from_json(storage.read(path), path))
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

    def done(self, part: Part) -> dict[str, int]:
        """The counts in the footer of a part that is there."""
        path = storage.join(self.directory, f"{part.name}.parquet")
        filesystem, inner = storage.resolve(path)
        try:
            with filesystem.open_input_file(inner) as file:
                return json.loads((pq.read_metadata(file).metadata or {})[METADATA])["counts"]
        except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
            message = " ".join(str(error).split())
            raise InputError(
                f"{path} is not the part that was written ({message}): remove it, and run again"
            ) from error

    def finish(self, totals: dict[str, int]) -> None:
        """Write what is left: the shards that could not be opened, and `_SUCCESS`."""
        unreadable = self.unreadable()
        path = storage.join(self.directory, "_rejected", "shards.parquet")
        if len(unreadable):
            with storage.writing(path) as file:
                pq.write_table(unreadable, file)
        elif storage.exists(path):
            storage.remove(path)
        success = json.dumps(totals, indent=1).encode()
        storage.write(storage.join(self.directory, "_SUCCESS"), success)

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
        self._remove([*parts, *rejected, *runs])
        # The first plan says whose directory it is: should the program die here, run it again.
        for number in reversed(range(len(self.plans))):
            storage.remove(self._plan_path(number))
        self.plans = []
        self._present = set(storage.names(self.directory))

    def _remove(self, names: list[str]) -> None:
        """Remove those that are there, some at a time: a bucket takes its time for each."""
        there = set(storage.names(self.directory))
        for below in ("_manifest", "_rejected"):
            there |= {f"{below}/{name}" for name in self._names(below)}
        paths = [storage.join(self.directory, name) for name in names if name in there]
        with ThreadPoolExecutor(REMOVALS) as pool:
            list(pool.map(storage.remove, paths))

    def _names(self, below: str) -> list[str]:
        return storage.names(storage.join(self.directory, below))

    def _plan_path(self, number: int) -> str:
        return storage.join(self.directory, "_manifest", f"plan-{number:05d}.json")
