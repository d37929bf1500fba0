"""The scoring job: count shards, plan parts, score the missing ones, and mark the output complete.

Shards -> plan (`planner`) -> parts, each read and tokenized (`reader`), scored and written
(`scorer`) on its own by an executor (`executor`, `ray_executor`) -> `_SUCCESS` (`output`). Any
process may die at any moment: the same command again scores what is missing.
"""

from contextlib import closing, suppress

import pyarrow as pa

from pipelines.console.extras import require_module
from pipelines.console.terminal import printable, quantity
from pipelines.errors import Failure
from pipelines.scoring.commit import PartWriter
from pipelines.scoring.config import OutputSettings, ScoreConfig
from pipelines.scoring.counting import count_shards, forget_counts
from pipelines.scoring.executor import Executor
from pipelines.scoring.final_lines import print_damage, print_first_rows, print_totals
from pipelines.scoring.output import REPORT, Output, overwrite, writing
from pipelines.scoring.part_data import PartTask
from pipelines.scoring.planner import make_plan, require_columns
from pipelines.scoring.reader import PartReader
from pipelines.scoring.run_record import RunRecord
from pipelines.scoring.scorer import PartScorer, PartWorker
from pipelines.scoring.totals import Totals
from pipelines.sources.listing import find_shards
from pipelines.sources.shard import Shard
from sentiment import storage
from sentiment.checkpoint import Checkpoint, load
from sentiment.errors import InputError, on_one_line
from sentiment.model.inference import inference
from sentiment.text.tokenizer import Tokenizer


class TooManyRejected(Failure):
    """More rows are rejected than `--max_rejected` allows."""


def main(config: ScoreConfig) -> None:
    """Score every shard that is new or not finished, on Ray.

    Raises InputError if a flag, the input or the output cannot be used, and Failure if the job has
    to stop: then the same command goes on.
    """
    if config.use_gpu:
        require_module("tensorflow")
    checkpoint = load(config.checkpoints_dir)
    shards = find_shards([storage.absolute(path) for path in config.input], "--input")
    directory = storage.absolute(config.output)
    output = overwrite(directory) if config.overwrite else Output(directory)
    storage.require_writable(output.directory, "--output")
    settings = config.settings(checkpoint.model_hash)
    output.require_same(settings)
    print_damage(output.directory, output.mend_here())
    output.remove_partial()
    if output.complete and not output.new_shards(shards):
        print(f"Nothing to do: every shard of the input is scored in {config.output}")
        return

    if not output.plans:
        require_columns(shards, settings)

    # Ray takes seconds to load: only if there is work.
    from pipelines.scoring.ray_executor import RayExecutor

    executor = RayExecutor(config, shards, output.directory)
    try:
        _run_and_report(config, checkpoint, output, shards, executor)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command again goes on") from None


def _run_and_report(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    shards: list[Shard],
    executor: Executor,
) -> None:
    """Run the job; print its totals and write its report."""
    print(
        f"{quantity(len(shards), 'shard')} of {' '.join(config.input)}, "
        f"model {checkpoint.model_hash[:12]} of {config.checkpoints_dir} "
        f"({len(checkpoint.words):,} words)"
    )
    try:
        totals = run(config, checkpoint, output, shards, executor)
    except TooManyRejected as error:
        # The report shows the reasons.
        _write_report(config, checkpoint, output, None, str(error))
        raise
    print_first_rows(config.output, output.plans)
    _write_report(config, checkpoint, output, totals)
    unreadable_shards = len(output.unreadable())
    print_totals(config.output, config.max_tokens, totals.counts, unreadable_shards)


def run(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    shards: list[Shard],
    executor: Executor,
) -> Totals:
    """Plan the new shards, score every missing part, write `_SUCCESS`, and return the totals.

    Another program may plan and score on the same output at the same time, and die: what it leaves
    undone is done here. Raises Failure if a part cannot be written, and TooManyRejected if more
    rows are rejected than `--max_rejected` allows.
    """
    settings = config.settings(checkpoint.model_hash)
    try:
        with closing(executor):
            print_damage(output.directory, output.mend(executor))
            while True:
                # If another program has added a plan first, that plan holds, and shards that it
                # lacks are still new.
                while new := output.new_shards(shards):
                    _plan(new, settings, output, executor)
                _score_missing(config, checkpoint, output, executor)
                print_damage(output.directory, output.mend(executor))
                with writing(output):
                    totals = output.close()
                if totals is not None:
                    return totals
    finally:
        # After the executor, and with it every process that writes on this machine, has ended.
        output.remove_partial()


def _plan(new: list[Shard], settings: OutputSettings, output: Output, executor: Executor) -> None:
    """Count the rows of new shards, divide them into parts, and add the plan to the output."""
    print(f"Counting the rows of {quantity(len(new), 'shard')} ...", flush=True)
    counts = count_shards(new, settings, executor, output.directory)
    plan = make_plan(new, counts, settings, first_part=output.planned_parts)
    with writing(output):
        output.add(plan)
    forget_counts(output.directory)


def _score_missing(
    config: ScoreConfig, checkpoint: Checkpoint, output: Output, executor: Executor
) -> None:
    """Score the parts that are missing, and write the run's record."""
    record = RunRecord(config, output)
    error = ""
    try:
        for number, plan in enumerate(output.plans):
            missing = output.missing_of(plan)
            tasks = [PartTask.of(part, plan.shards, number) for part in missing]
            if tasks:
                worker = _worker(config, checkpoint, output, plan.schema)
                # Whatever is raised, tasks end before the executor does.
                with closing(executor.score(tasks, worker)) as results:
                    for result in results:
                        record.add(result)
                        if result.error:
                            error = error or result.error
                        else:
                            output.add_result(result)
    finally:
        record.close()
        with suppress(OSError, Failure):
            output.save()
        # On a full disk there is no record; the error that is under way says why.
        with suppress(OSError):
            output.record(record.contents(checkpoint.model_hash), record.began_ms)
    if error:
        output.look()  # Raises if another program has overwritten the output.
        raise Failure(error)
    rejected = record.rejected_rows + record.unreadable_shards
    if rejected > config.rejected_limit(output.planned_rows):
        raise TooManyRejected(
            f"{rejected:,} rows or shards are rejected, more than "
            f"--max_rejected {config.max_rejected}: see _rejected/ in the output"
        )


def _worker(
    config: ScoreConfig, checkpoint: Checkpoint, output: Output, schema: pa.Schema
) -> PartWorker:
    """What reads, scores and writes the parts of a plan; `schema` is that of the kept columns."""
    reader = PartReader(
        encoder=Tokenizer(checkpoint.stop_words).encoder(checkpoint.words),
        text_column=config.text_column,
        schema=schema,
        encoding=config.encoding,
        max_tokens=config.max_tokens,
    )
    infer = inference(checkpoint.weights, checkpoint.bigrams, config.use_gpu, config.batch_size)
    writer = PartWriter(output.directory, output.staging, output.writer)
    scorer = PartScorer(infer, writer, tuple(output.digests), checkpoint.model_hash)
    return PartWorker(reader, scorer)


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
        # Matplotlib takes a second to load.
        from pipelines.reports.scoring_report import scoring_report
        from pipelines.scoring.report_data import collect

        if totals is None:
            output.look()
            totals = output.totals()
        results = collect(config, checkpoint, output, totals, stopped)
        output.write_report(scoring_report(results))
    except Exception as error:
        message = on_one_line(error)
        if not isinstance(error, OSError | InputError):  # A bug in this program.
            message = f"{type(error).__name__}: {message}"
        print(f"No report: {printable(message)}")
    else:
        print(f"Report: {storage.join(config.output, '_manifest', REPORT)}")
