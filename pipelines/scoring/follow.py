"""Bring the plans of an output up to date with the input: what is new, moved, changed or gone.

New shards are planned, moved ones are remembered where they are now. A shard that has changed is
planned again if none of its rows is in the output yet, or with `--sync`: then the parts that have
rows of it are retired, and the other shards of those parts are planned again, too. What is not
followed is `Stale`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.console.terminal import printable, quantity, say, warn
from pipelines.scoring.by_value import require_countable
from pipelines.scoring.changes import Difference, Findings, difference, find_changes
from pipelines.scoring.config import OutputSettings, ScoreConfig
from pipelines.scoring.counting import count_shards, forget_counts
from pipelines.scoring.counts import Counts
from pipelines.scoring.executor import Executor
from pipelines.scoring.known import KnownShards
from pipelines.scoring.mending import remove_retired
from pipelines.scoring.output import Output, overwrite, require_own, writing
from pipelines.scoring.plan import Changes, Plan
from pipelines.scoring.planner import make_plan
from pipelines.scoring.shards import Shards
from pipelines.sources.shard_file import unavailable
from sentiment import storage
from sentiment.errors import InputError

CONCURRENT_LOOKUPS = 16
"""Shards that are looked up at the same time: a bucket takes time for each."""


@dataclass
class Stale:
    """Where the output does not follow the input."""

    changed: list[str] = field(default_factory=list)
    """Paths of shards that have another content than what was scored."""
    compacted: list[str] = field(default_factory=list)
    """Paths of new shards that are not planned, because they look like a compaction."""

    @property
    def paths(self) -> set[str]:
        """All of them."""
        return {*self.changed, *self.compacted}

    def add(self, other: "Stale") -> None:
        """Add what was found later."""
        self.changed += other.changed
        self.compacted += other.compacted

    @property
    def problems(self) -> list[str]:
        """What is wrong, without what to do, in one line for each kind."""
        problems = []
        if self.changed:
            verb = "has" if len(self.changed) == 1 else "have"
            scored = quantity(len(self.changed), "scored shard")
            problems.append(f"{scored} {verb} changed (first: {printable(self.changed[0])})")
        if self.compacted:
            verb = "has" if len(self.compacted) == 1 else "have"
            new = quantity(len(self.compacted), "new shard")
            problems.append(
                f"{new} {verb} come where scored shards are gone, which looks like the same rows, "
                f"compacted or written again (first: {printable(self.compacted[0])})"
            )
        return problems


def is_up_to_date(config: ScoreConfig, output: Output, shards: Shards) -> bool:
    """Whether there is nothing to plan and nothing to try again."""
    found = difference(output.plans.known, shards)
    is_known = not len(found.unknown) or bool(config.limit and output.plans)
    if config.retry_rejected and output.has_rejected:
        return False
    return is_known and not _has_gone(config, output.plans.known, found)


def _has_gone(config: ScoreConfig, known: KnownShards, found: Difference) -> bool:
    """Whether a shard is gone that the output has to forget: with `--sync` any one, else one that
    could not be opened, so that the output has no row of it."""
    if config.sync:
        return bool(len(found.unseen))
    unreadable = found.unseen[known.is_unreadable[found.unseen]]
    return not _exist(known.shards.take(unreadable)).all()


def absent_note(output: Output, shards: Shards) -> str:
    """How many known shards are not in the input, in a line; "": all are."""
    known = output.plans.known.shards
    paths = known.paths.take(pa.array(difference(output.plans.known, shards).unseen))
    absent = paths.filter(pc.invert(pc.is_in(paths, shards.paths)))
    if not len(absent):
        return ""
    return (
        f"Not in --input: {quantity(len(absent), 'known shard')} "
        f"(first: {printable(absent[0].as_py())}); rows of them stay in the output"
    )


def lacks_input(output: Output, shards: Shards) -> bool:
    """Whether a part is missing and cannot be scored: it has rows of a shard that is not in the
    input as it was."""
    unseen = difference(output.plans.known, shards).unseen
    wanted = _Pieces(output).shards_of(np.flatnonzero(~output.is_done))
    return bool(np.isin(wanted, unseen).any())


def follow(
    config: ScoreConfig,
    settings: OutputSettings,
    shards: Shards,
    output: Output,
    executor: Executor,
) -> Stale:
    """Plan what is new, and what has changed as far as it is to be followed.

    If another program adds a plan at the same time, that plan holds, and the rest is looked at
    again. Raises InputError and Failure.
    """
    stale = Stale()
    retries = config.retry_rejected
    while step := next_step(config, settings, shards, output, executor, stale, retries):
        retries = False
        say_step(step, output.plans.known, shards)
        stale.add(step.stale)
        if step.plan is not None:
            # Flags that are refused leave no plan.
            executor.require_room(len(step.plan.parts) + output.missing_parts)
            _add(output, step.plan)
    return stale


def begin_anew(
    config: ScoreConfig,
    settings: OutputSettings,
    shards: Shards,
    directory: str,
    executor: Executor,
) -> Output:
    """Start an output from scratch, with its first plan (`--overwrite`).

    What is there is removed when that plan is made and can be carried out, so not if a flag, the
    input or the cluster is refused. Raises InputError and Failure.
    """
    require_own(directory)
    # A directory that is not there has no plans.
    blank = Output(storage.join(directory, "_manifest", ".anew"))
    step = next_step(config, settings, shards, blank, executor, Stale())
    assert step is not None
    assert step.plan is not None
    require_countable(config.by or (), step.plan.schema, shards)
    executor.require_room(len(step.plan.parts))
    storage.require_writable(directory, "--output")
    output = overwrite(directory)
    say_step(step, output.plans.known, shards)
    _add(output, step.plan)
    return output


def _add(output: Output, plan: Plan) -> None:
    with writing(output):
        output.add(plan)
        remove_retired(output)
    for note in plan.notes:
        say(printable(note))
    forget_counts(output.directory)


@dataclass(frozen=True)
class Step:
    """What was found, and the plan that follows from it."""

    findings: Findings
    plan: Plan | None
    """None: nothing is to be planned."""
    stale: Stale
    """What the plan leaves as it is."""


def next_step(
    config: ScoreConfig,
    settings: OutputSettings,
    shards: Shards,
    output: Output,
    executor: Executor,
    stale: Stale,
    retries_unreadable: bool = False,
) -> Step | None:
    """Look at what is not known yet, and is not known to be stale; None: there is nothing.

    With `retries_unreadable`, shards that could not be opened are looked at again, though they are
    as they were. With `--dry_run` nothing is written. Raises InputError and Failure.
    """
    if config.limit and output.plans:
        return None
    found = difference(output.plans.known, shards, retries_unreadable)
    skipped = stale.paths
    is_stale = np.array([path in skipped for path in _paths(shards, found.unknown)], bool)
    found = replace(found, unknown=found.unknown[~is_stale])
    if not len(found.unknown) and not _has_gone(config, output.plans.known, found):
        return None
    # With --overwrite the directory may still be that of the output before.
    kept_in = None if config.dry_run or config.overwrite else output.directory
    if len(found.unknown):
        say(f"Counting the rows of {quantity(len(found.unknown), 'shard')} ...")
    if config.limit:
        chosen, counts = _first_rows(shards.take(found.unknown), settings, executor, config.limit)
        found = replace(found, unknown=found.unknown[:chosen])
    else:
        counts = count_shards(shards.take(found.unknown), settings, executor, kept_in)
    decision = _decide(config, output, shards, found, counts)
    unknown = shards.take(found.unknown[decision.unknown])
    planned = Shards.concatenate([unknown, decision.again])
    if not len(planned) and not decision.changes:
        return Step(decision.findings, None, decision.stale)
    of_planned = Counts.none_of(len(planned))
    of_planned.put(np.arange(len(unknown)), counts.take(decision.unknown))
    of_again = count_shards(decision.again, settings, executor, kept_in)
    of_planned.put(len(unknown) + np.arange(len(decision.again)), of_again)
    # One output is one table: its first plan that has rows decides the columns.
    kept = next((plan.schema for plan in output.plans if len(plan.parts)), None)
    plan = make_plan(planned, of_planned, settings, output.plans.next_part, kept)
    return Step(decision.findings, replace(plan, changes=decision.changes), decision.stale)


def _first_rows(
    shards: Shards, settings: OutputSettings, executor: Executor, limit: int
) -> tuple[int, Counts]:
    """How many of the first shards have `limit` rows, and their counts, of no more rows than that.

    Few shards are counted, each once: in all twice as many each time.
    """
    counts = Counts.none_of(len(shards))
    counted = rows = 0
    while rows < limit and counted < len(shards):
        more = np.arange(counted, min(max(2 * counted, 1), len(shards)))
        counts.put(more, count_shards(shards.take(more), settings, executor, None))
        counted += len(more)
        rows = int(counts.rows[:counted].clip(0).sum())
    if rows > limit:
        sums = np.cumsum(counts.rows[:counted].clip(0))
        last = int(np.searchsorted(sums, limit))
        counts.rows[last] -= sums[last] - limit
        # The rest of its last row group is not read.
        counts.groups.pop(last, None)
        counted = last + 1
    return counted, counts.take(np.arange(counted))


@dataclass(frozen=True)
class _Decision:
    """What is planned, and what is not."""

    findings: Findings
    unknown: np.ndarray
    """int64[n]: which of the unknown shards are planned."""
    again: Shards
    """Known shards that are planned again, because they share parts with others."""
    changes: Changes
    stale: Stale


def _decide(
    config: ScoreConfig, output: Output, listed: Shards, found: Difference, counts: Counts
) -> _Decision:
    known = output.plans.known

    def exists(indices: np.ndarray) -> np.ndarray:
        return _exist(known.shards.take(indices))

    pieces = _Pieces(output)
    findings = find_changes(known, pieces.scored_rows, listed, found, counts, exists)
    changed, absent = findings.known_changed, findings.absent
    if config.sync:
        _require_gone(known.shards.take(absent), exists(absent))
    else:
        # Of these, the output has no row yet.
        changed = changed[pieces.scored_rows[changed] == 0]
        absent = absent[pieces.scored_rows[absent] == 0]
        absent = absent[(pieces.rows[absent] > 0) | known.is_unreadable[absent]]
        absent = absent[~exists(absent)]
    followed = np.concatenate([changed, absent])
    retired = pieces.parts_of(followed)
    again = np.setdiff1d(pieces.shards_of(retired), followed)
    is_moved = np.isin(findings.known_moved, again)

    is_followed = np.isin(findings.known_changed, followed)
    is_refused = np.isin(findings.new, findings.compacted)
    is_refused &= not (config.sync or config.keep_stale)
    listed_to_plan = np.concatenate(
        [
            findings.new[~is_refused],
            findings.changed[is_followed],
            findings.moved[is_moved],
        ]
    )
    stale = Stale(
        _paths(listed, findings.changed[~is_followed]), _paths(listed, findings.new[is_refused])
    )
    planned = listed.paths.take(pa.array(listed_to_plan))
    gone = known.shards.paths.take(pa.array(followed))
    gone = gone.filter(pc.invert(pc.is_in(gone, planned)))
    digests = counts.digests[np.searchsorted(found.unknown, findings.moved)]
    changes = Changes(
        known.shards.paths.take(pa.array(findings.known_moved)),
        listed.take(findings.moved).with_digests(digests),
        gone,
        np.sort(pieces.numbers[retired]),
    )
    return _Decision(
        findings,
        np.searchsorted(found.unknown, np.sort(listed_to_plan)),
        known.shards.take(np.setdiff1d(again, findings.known_moved)),
        changes,
        stale,
    )


class _Pieces:
    """Which known shards have rows in which parts of an output."""

    def __init__(self, output: Output) -> None:
        plans, known = output.plans, output.plans.known
        parts = [np.repeat(np.arange(len(p.parts)), np.diff(p.parts.starts)) for p in plans]
        before = np.cumsum([0, *(len(p.parts) for p in plans)])
        none = [np.zeros(0, np.int64)]
        self._part = np.concatenate([*none, *(b + p for b, p in zip(before, parts, strict=False))])
        self._shard = np.concatenate(
            [*none, *(known.of_plan(i).start + p.parts.pieces[:, 0] for i, p in enumerate(plans))]
        )
        rows = np.concatenate([*none, *(p.parts.pieces[:, 2] for p in plans)])
        self.numbers = np.concatenate([*none, *(p.parts.numbers for p in plans)])
        """int64[parts]: the numbers in the parts' names."""
        self.rows = self._sums(rows, len(known.shards))
        """int64[known shards]: rows in all parts."""
        self.scored_rows = self._sums(rows * output.is_done[self._part], len(known.shards))
        """int64[known shards]: rows in those parts that are done."""

    def _sums(self, rows: np.ndarray, shards: int) -> np.ndarray:
        sums = np.zeros(shards, np.int64)
        np.add.at(sums, self._shard, rows)
        return sums

    def parts_of(self, shards: np.ndarray) -> np.ndarray:
        """int64[n]: indices of the parts that have rows of any of the shards."""
        return np.unique(self._part[np.isin(self._shard, shards)])

    def shards_of(self, parts: np.ndarray) -> np.ndarray:
        """int64[n]: indices of the shards that have rows in any of the parts."""
        return np.unique(self._shard[np.isin(self._part, parts)])


def _exist(shards: Shards) -> np.ndarray:
    """bool[shards]: which are files still. Raises Unavailable."""

    def exists(path: str) -> bool:
        try:
            return storage.exists(path)
        except OSError as error:
            raise unavailable(path, "cannot be looked up", error) from error

    with ThreadPoolExecutor(CONCURRENT_LOOKUPS) as pool:
        return np.array(list(pool.map(exists, shards.paths.to_pylist())), bool)


def _require_gone(absent: Shards, exist: np.ndarray) -> None:
    """Raise InputError if `--sync` would remove rows of shards that were only not named."""
    if exist.any():
        first = absent[int(np.flatnonzero(exist)[0])].path
        raise InputError(
            f"--sync would remove the rows of {quantity(int(exist.sum()), 'shard')} that exist but "
            f"are not in --input (first: {first}): name them in --input, too, or delete them"
        )


def say_step(step: Step, known: KnownShards, listed: Shards) -> None:
    """Print what was found, in a line for each kind."""
    findings = step.findings

    def first(shards: Shards, indices: np.ndarray) -> str:
        return printable(shards[int(indices[0])].path)

    say_moved(findings, known, listed)
    for problem in step.stale.problems:
        warn(f"Not followed: {problem}")
    if len(findings.copies):
        shards = quantity(len(findings.copies), "new shard")
        warn(
            f"Copies: {shards} with the content of another shard, each scored on its own "
            f"(first: {first(listed, findings.copies)})"
        )
    retired = 0 if step.plan is None else len(step.plan.changes.retired)
    if retired:
        say(f"Scored again to follow the input: {quantity(retired, 'part')}")


def say_moved(findings: Findings, known: KnownShards, listed: Shards) -> None:
    """Print how many known shards are elsewhere now, or were written again, if there are any."""
    if len(findings.moved):
        was = printable(known.shards[int(findings.known_moved[0])].path)
        now = printable(listed[int(findings.moved[0])].path)
        example = now if was == now else f"{was}, now {now}"
        shards = quantity(len(findings.moved), "scored shard")
        say(f"Moved, or written again with the same content: {shards} (first: {example})")


def _paths(shards: Shards, indices: np.ndarray) -> list[str]:
    paths: list[str] = shards.paths.take(pa.array(indices)).to_pylist()
    return paths
