"""The scoring job: count shards, plan parts, score the missing ones, and mark the output complete.

Shards -> plan (`planner`) -> parts, each read and tokenized (`reader`), scored and written
(`scorer`) on its own by an executor (`executor`, `ray_executor`) -> `_SUCCESS` (`output`). Any
process may die at any moment: the same command again scores what is missing.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from pipelines.cluster.submitted import require_lasting
from pipelines.console.extras import require_module
from pipelines.console.terminal import printable, quantity, quietly, say, warn
from pipelines.console.waiting import compiling_said, waiting
from pipelines.errors import Failure, Unavailable
from pipelines.reports.drift import drift_warnings
from pipelines.scoring.acceptance import Unaccepted, unaccepted
from pipelines.scoring.by_value import require_countable
from pipelines.scoring.commit import PartWriter
from pipelines.scoring.config import OutputSettings, ScoreConfig
from pipelines.scoring.executor import Executor
from pipelines.scoring.final_lines import (
    say_damage,
    say_how_to_read,
    say_run,
    say_totals,
    say_unreadable,
)
from pipelines.scoring.follow import absent_note, begin_anew, follow, is_up_to_date, lacks_input
from pipelines.scoring.mending import mend, mend_here, retry_rejected
from pipelines.scoring.output import REPORT, Output, writing
from pipelines.scoring.part_data import PartTask
from pipelines.scoring.part_worker import PartWorker, ReadStep, ScoreStep
from pipelines.scoring.planner import require_columns
from pipelines.scoring.preview import preview
from pipelines.scoring.reader import PartReader
from pipelines.scoring.run_log import RunLog, log_idle
from pipelines.scoring.run_record import RunRecord, RunSummary
from pipelines.scoring.scorer import PartScorer
from pipelines.scoring.shards import Shards
from pipelines.scoring.totals import Scored, Totals
from pipelines.sources.listing import Found, find, require_apart
from pipelines.sources.names import require_keys
from pipelines.sources.shard import Shard
from sentiment import storage
from sentiment.checkpoint import Checkpoint, load, pinned
from sentiment.errors import InputError, on_one_line
from sentiment.model.inference import inference

MAX_ERRORS_SHOWN = 10
"""Failed parts that are named as they fail; later ones are counted."""

MAX_FAILED_IN_A_ROW = 10
"""After this many parts without one that could be scored, the job stops: all else would fail."""


class PartsFailed(Failure):
    """Parts could not be scored; the others are done."""


class InputChanged(Failure):
    """Scored shards have changed, and the output does not follow; all other parts are done."""


class TooManyRejected(Failure):
    """More rows are rejected than `--max_rejected` allows; all parts are done."""


@compiling_said()
def main(config: ScoreConfig) -> Scored:
    """Score every shard that is new or not finished, on Ray; tell what the output holds then.

    Raises InputError if a flag, the input or the output cannot be used, and Failure if the job has
    to stop: then the same command goes on.
    """
    try:
        with quietly(config.quiet):
            return _score(config)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command again goes on") from None


def _score(config: ScoreConfig) -> Scored:
    require_lasting(config.output, "--output")
    if config.use_gpu:
        require_module("tensorflow")
    with waiting(f"Loading the model of {config.checkpoints_dir}"):
        config = replace(config, checkpoints_dir=pinned(config.checkpoints_dir))
        checkpoint = load(config.checkpoints_dir)
    paths = [storage.absolute(path) for path in config.input]
    directory = storage.absolute(config.output)
    found = _listed(config, checkpoint, paths, directory)
    require_apart(paths, found.shards, directory)
    shards = Shards.of(found.shards)
    if found.remark:
        warn(printable(found.remark))
    settings = config.settings(checkpoint.model_hash, checkpoint.classes.names)
    summary = RunSummary(found.aside_counts)
    if config.overwrite:
        _require_plannable(config, settings, shards)
        _say_job(config, checkpoint, shards)
        with closing(_executor(config, shards, directory)) as executor:
            output = begin_anew(config, settings, shards, directory, executor)
            return _run_and_report(config, checkpoint, output, shards, executor, summary)
    output = Output(directory)
    output.require_same(settings)
    if not output.plans:
        _require_plannable(config, settings, shards)
    for plan in output.plans[-1:]:
        require_countable(config.by or (), plan.schema, shards)
    if config.dry_run:
        preview(config, checkpoint, output, shards, _executor(config, shards, directory))
        return _scored(output, output.records.totals())
    storage.require_writable(output.directory, "--output")
    say_damage(output.directory, mend_here(output, config.by or ()))
    output.remove_partial()
    if output.complete and is_up_to_date(config, output, shards):
        if note := absent_note(output, shards):
            warn(note)
        say_unreadable(output)
        if config.by or config.show_samples:
            say("--by and --show_samples are for runs that score rows: the report stays as it is")
        log_idle(output)
        scored = "every shard of the input is"
        if config.limit:
            scored = "the first rows of the input, as they were then, are"
        warn(f"Nothing to do: {scored} scored in {config.output}")
        return _scored(output, output.records.totals())

    executor = _executor(config, shards, directory)
    _say_job(config, checkpoint, shards)
    return _run_and_report(config, checkpoint, output, shards, executor, summary)


def _require_plannable(config: ScoreConfig, settings: OutputSettings, shards: Shards) -> None:
    """Raise InputError if no first plan can be made of the shards, as far as the first ones tell,
    and Failure if one cannot be read now."""
    require_keys(shards.paths.to_pylist(), config.partition_by or (), "--partition_by")
    schema = require_columns(shards, settings)
    if schema is not None:
        require_countable(config.by or (), schema, shards)


def _listed(
    config: ScoreConfig, checkpoint: Checkpoint, paths: Sequence[str], directory: str
) -> Found:
    """The shards of the input. That there are none, or that they cannot be listed, also stands in
    the log of the output, if it is this job's."""
    try:
        with waiting("Listing the shards"):
            return find(paths, "--input", config.where or (), config.format is not None)
    except (InputError, Failure) as error:
        if not (config.dry_run or config.overwrite):
            with suppress(InputError, Failure):
                output = Output(directory)
                output.require_same(
                    config.settings(checkpoint.model_hash, checkpoint.classes.names)
                )
                RunLog(config, checkpoint.model_hash, output, RunSummary()).fail(error)
        raise


def _executor(config: ScoreConfig, shards: Shards, output: str) -> Executor:
    # Ray takes seconds to load: only if there is work.
    with waiting("Loading Ray"):
        from pipelines.scoring.ray_executor import RayExecutor

    return RayExecutor(config, shards, output)


def _say_job(config: ScoreConfig, checkpoint: Checkpoint, shards: Shards) -> None:
    say(
        f"{quantity(len(shards), 'shard')} of {' '.join(config.input)}, "
        f"model {checkpoint.model_hash[:12]} of {config.checkpoints_dir} "
        f"({len(checkpoint.words):,} words)"
    )


def _run_and_report(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    shards: Shards,
    executor: Executor,
    summary: RunSummary,
) -> Scored:
    """Run the job; print its totals and write its report."""
    drift = partial(drift_warnings, training=checkpoint.training, max_tokens=config.max_tokens)
    try:
        totals = run(config, checkpoint, output, shards, executor, summary)
    except (PartsFailed, TooManyRejected, InputChanged) as error:
        # The report shows the reasons.
        _write_report(config, checkpoint, output, None, str(error))
        say_unreadable(output)
        say_run(summary, checkpoint.classes.names, drift(summary.counts))
        raise
    say_how_to_read(config.output, output, config.show_samples, bool(config.partition_by))
    _write_report(config, checkpoint, output, totals)
    unreadable_shards = len(output.plans.unreadable())
    names = checkpoint.classes.names
    say_totals(config.output, config.max_tokens, totals, names, unreadable_shards)
    warnings = drift(summary.counts)
    say_unreadable(output)
    say_run(summary, names, warnings)
    notes = (*summary.notes, *warnings)
    return _scored(output, totals, int(summary.classes.sum()), notes)


def _scored(
    output: Output, totals: Totals, new_rows: int = 0, warnings: tuple[str, ...] = ()
) -> Scored:
    return Scored(
        output=output.directory,
        rows=totals.counts["rows"],
        rejected=totals.counts["rejected"],
        truncated=totals.counts["truncated"],
        wordless=totals.wordless,
        labels=dict(zip(output.plans.classes, totals.classes.tolist(), strict=True)),
        new_rows=new_rows,
        warnings=warnings,
    )


def run(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    shards: Sequence[Shard],
    executor: Executor,
    summary: RunSummary | None = None,
) -> Totals:
    """Plan the new shards, score every missing part, write `_SUCCESS`, and return the totals.

    What this run does is added to `summary`, also if it fails.

    Another program may plan and score on the same output at the same time, and die: what it leaves
    undone is done here. When all that can be done is done, raises PartsFailed if parts could not be
    scored, TooManyRejected if more rows are rejected than `--max_rejected` allows, and InputChanged
    if scored shards have changed, without `--sync` and `--keep_stale`.
    """
    settings = config.settings(checkpoint.model_hash, checkpoint.classes.names)
    drift = partial(drift_warnings, training=checkpoint.training, max_tokens=config.max_tokens)
    summary = summary or RunSummary()
    by = config.by or ()
    log = RunLog(config, checkpoint.model_hash, output, summary)
    try:
        with log.kept(), closing(executor):
            say_damage(output.directory, mend(output, executor, by))
            if config.retry_rejected:
                with writing(output):
                    again = retry_rejected(output)
                say(f"Scored again for their rejected rows: {quantity(again, 'part')}")
            while True:
                stale = follow(config, settings, Shards.of(shards), output, executor)
                log.begin()
                if note := absent_note(output, Shards.of(shards)):
                    say(note)
                    summary.note(note)
                _score_missing(config, checkpoint, output, Shards.of(shards), executor, summary)
                new = unaccepted(output)
                log.judge(new)
                _require_few_rejected(config, new)
                say_damage(output.directory, mend(output, executor, by))
                if stale.problems and not config.keep_stale:
                    with writing(output):
                        output.withdraw_success()
                    raise InputChanged(
                        f"{' and '.join(stale.problems)}: all else is done; the same command with "
                        "--sync makes the output follow the input, and with --keep_stale leaves it"
                    )
                with writing(output):
                    totals = output.close(drift)
                if totals is not None:
                    return totals
    except TooManyRejected:
        with writing(output):
            output.write_unreadable()
        raise
    finally:
        # After the executor, and with it every process that writes on this machine, has ended.
        output.remove_partial()


def _score_missing(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    shards: Shards,
    executor: Executor,
    summary: RunSummary,
) -> None:
    """Score the parts that are missing, and add what was done to the summary.

    When the others are done, raises PartsFailed if parts could not be scored.
    """
    number = output.missing_parts
    record = RunRecord(config, output)
    first_error = ""
    failed_in_a_row = 0
    try:
        executor.require_room(number)
        record.begin()
        if number:
            worker = _worker(config, checkpoint, output)
            results = executor.score(_missing_tasks(output), number, worker, record.say)
            # Whatever is raised, tasks end before the executor does.
            with closing(results):
                for result in results:
                    record.add(result)
                    if not result.error:
                        output.add_result(result)
                        failed_in_a_row = 0
                        continue
                    failed_in_a_row += 1
                    first_error = first_error or result.error
                    if record.failed_parts <= MAX_ERRORS_SHOWN:
                        record.warn(f"Failed: {printable(result.error)}")
                    if failed_in_a_row == MAX_FAILED_IN_A_ROW:
                        break
    finally:
        record.close()
        summary.add(record)
        with suppress(OSError, Failure):
            output.save()
    if record.failed_parts:
        # Raises if another program has overwritten the output. Whether one did may not be known.
        with suppress(Unavailable):
            output.look()
        rest = ", and the rest was not tried" if failed_in_a_row == MAX_FAILED_IN_A_ROW else ""
        failed = f"{record.failed_parts:,} of {quantity(number, 'part')}"
        if not config.sync and lacks_input(output, shards):
            raise PartsFailed(
                f"{failed} failed{rest}; the first: {first_error}: the same command with --sync "
                "makes the output follow the input"
            )
        raise PartsFailed(
            f"{failed} failed{rest}; the first: {first_error}: run the same command again"
        )


def _missing_tasks(output: Output) -> Iterator[PartTask]:
    """Made on demand: there may be a million."""
    for number, plan in enumerate(output.plans):
        for part in output.missing_of(number):
            yield PartTask.of(part, plan.shards, number, output.replaced_by(part.name))


def _require_few_rejected(config: ScoreConfig, new: Unaccepted) -> None:
    """Raise TooManyRejected unless `--max_rejected` allows what was rejected.

    A shard that cannot be read has an unknown number of rows, which only 100% allows.
    """
    rows, rejected, shards = new.rows, new.rejected, new.unreadable_shards
    limit = config.rejected_limit(rows)
    problems, accepted = [], f"{math.ceil(1000 * rejected / max(rows, 1)) / 10:g}%"
    if rejected > limit:
        problems.append(
            f"{rejected:,} of {quantity(rows, 'new row')} were rejected, more than --max_rejected "
            f"{config.max_rejected}"
        )
    if shards and limit < float("inf"):
        accepted = "100%"
        problems.append(f"{quantity(shards, 'shard')} could not be read")
    if problems:
        raise TooManyRejected(
            f"{' and '.join(problems)}: see _rejected/ in the output; mend the source, or accept "
            f"it, once, by --max_rejected {accepted}; all else is done"
        )


def _worker(config: ScoreConfig, checkpoint: Checkpoint, output: Output) -> PartWorker:
    """What reads, scores and writes the parts of all plans."""
    encoder = checkpoint.encoder()
    infer = inference(checkpoint.network, config.use_gpu, config.batch_size)
    readers = [PartReader.of(config, encoder, plan.schema) for plan in output.plans]
    writer = PartWriter(output.directory, output.staging, output.writer, len(output.plans))
    scorer = PartScorer(
        infer,
        writer,
        output.plans.digests,
        checkpoint.model_hash,
        checkpoint.classes,
        config.by or (),
    )
    attempts = config.max_attempts
    return PartWorker(ReadStep(readers, scorer.finished, attempts), ScoreStep(scorer, attempts))


def _write_report(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    totals: Totals | None,
    stopped: str = "",
) -> None:
    """Write the report; if the job was stopped, of the parts that are there.

    A report that cannot be written costs one line on the terminal, and the job succeeds or fails as
    it would with it.
    """
    try:
        with waiting("Writing the report"):
            # Matplotlib takes a second to load.
            from pipelines.reports.scoring_report import scoring_report
            from pipelines.scoring.report_data import collect

            if totals is None:
                output.look()
                totals = output.records.totals()
            results = collect(config, checkpoint, output, totals, stopped)
            output.write_report(scoring_report(results))
    except Exception as error:
        message = on_one_line(error)
        if not isinstance(error, OSError | InputError):  # A bug in this program.
            message = f"{type(error).__name__}: {message}"
        warn(f"No report: {printable(message)}")
    else:
        say(f"Report: {storage.join(config.output, '_manifest', REPORT)}")
