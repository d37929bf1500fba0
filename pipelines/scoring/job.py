"""The scoring job on Ray: count shards, score the missing parts, say how it goes."""

import math
import posixpath
import textwrap
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.exceptions import RayError, RayTaskError

from pipelines.cluster.datasets import import_ray_data, rows_of
from pipelines.cluster.session import session
from pipelines.cluster.shared_directories import require_shared
from pipelines.console.terminal import printable, quantity
from pipelines.errors import Failure
from pipelines.scoring import plan
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import REPORT, Output, writing
from pipelines.scoring.parts import PartReader, PartScorer, PartWorker, to_item
from pipelines.scoring.plan import Part
from pipelines.scoring.run_record import Tally, TooManyRejected
from pipelines.scoring.totals import Totals
from pipelines.sources.shard import Counted, Shard
from sentiment import storage
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError, on_one_line
from sentiment.model.inference import inference
from sentiment.text.tokenizer import Tokenizer

SAMPLES, WIDEST = 10, 60
"""Rows to show at the end, and characters of a value."""

SHARDS_COUNTED_HERE, BYTES_COUNTED_HERE = 64, 8 * 2**20
"""Shards, and of them bytes of CSV, that are counted faster than a worker starts."""

MOST_ACTORS = 1000
"""That a cluster may grow to unless `--num_actors` says otherwise."""

DIRECTORIES_PROBED = 100
"""Of the input, to be seen by every node."""


def run(config: ScoreConfig, checkpoint: Checkpoint, output: Output, shards: list[Shard]) -> None:
    """Plan the shards that are new, score every part that is missing, and mark the output whole.

    Raises Failure where a part cannot be written, or more rows are rejected than
    `--max_rejected` allows.
    """
    with ExitStack() as stack:
        # When Ray has ended, and on one machine with it every actor. One that writes on fails.
        stack.callback(output.remove_partial)

        @cache
        def start_ray() -> None:
            """Where it has not been: it takes longer to start than a part takes this process."""
            stack.enter_context(session(config.verbose))
            by_directory = {posixpath.dirname(shard.path): shard.path for shard in shards}
            inputs = [("--input", path) for path in by_directory.values()][:DIRECTORIES_PROBED]
            require_shared([*inputs, ("--output", output.directory)])

        print(
            f"{quantity(len(shards), 'shard')} of {' '.join(config.input)}, "
            f"model {checkpoint.model_hash[:12]} of {config.checkpoints_dir} "
            f"({len(checkpoint.words):,} words)"
        )
        totals = None
        # Another program may plan or score at the same time: what it leaves undone is done here.
        while totals is None:
            # Then its plan holds, and what that lacks is new.
            while new := output.new_shards(shards):
                _plan(new, config.settings(checkpoint.model_hash), output, start_ray)
            try:
                _score_missing(config, checkpoint, output, start_ray)
            except TooManyRejected as stopped:
                # Why so many were: the report says it best.
                _report(config, checkpoint, output, None, str(stopped))
                raise
            with writing(output):
                totals = output.close()
    _say_how_to_read(config.output, output.parts)
    _report(config, checkpoint, output, totals)
    _say_done(config, totals.counts, len(output.unreadable()))


def _score_missing(
    config: ScoreConfig, checkpoint: Checkpoint, output: Output, start_ray: Callable[[], None]
) -> None:
    missing = output.missing()
    tally = Tally(config, output, {part.name for part, _ in missing})
    try:
        for planned in output.plans:
            parts = [part for part, its in missing if its is planned]
            if parts:
                steps = _steps(config, checkpoint, output, planned.schema)
                items = [to_item(part, planned.shards) for part in parts]
                # Whatever is raised, Ray Data ends before Ray does.
                with closing(_score(items, *steps, config, start_ray)) as scored:
                    for done in scored:
                        tally.add(done)
    finally:
        tally.close()
        # On a full disk no record is written either, and what went wrong is still to be said.
        with suppress(OSError):
            output.record(*tally.record(checkpoint.model_hash))


def _report(
    config: ScoreConfig,
    checkpoint: Checkpoint,
    output: Output,
    totals: Totals | None,
    stopped: str = "",
) -> None:
    """Write the report, of the parts that are there where the job was stopped.

    It is a courtesy: whatever keeps it from being made is one line, and the job is what it was.
    """
    try:
        # What draws it loads for a second.
        from pipelines.reports.scoring_report import scoring_report
        from pipelines.scoring.report_data import collect

        if totals is None:
            output.look()
            missing = {part.name for part, _ in output.missing()}
            totals = output.totals([part for part in output.parts if part.name not in missing])
        results = collect(config, checkpoint, output, totals, stopped)
        output.write_report(scoring_report(results))
    except Exception as error:
        said = on_one_line(error)
        if not isinstance(error, OSError | InputError):  # A mistake in this program.
            said = f"{type(error).__name__}: {said}"
        print(f"No report: {printable(said)}")
    else:
        print(f"Report: {storage.join(config.output, '_manifest', REPORT)}")


def _plan(
    new: list[Shard], settings: dict[str, Any], output: Output, start_ray: Callable[[], None]
) -> None:
    print(f"Counting the rows of {quantity(len(new), 'shard')} ...", flush=True)
    counts = _count(new, settings, start_ray)
    if not output.plans and not any(isinstance(count, Counted) for count in counts):
        raise InputError(counts[0])
    made = plan.make(new, counts, settings, first_part=len(output.parts))
    with writing(output):
        output.add(made)


def _count(
    shards: list[Shard], settings: dict[str, Any], start_ray: Callable[[], None]
) -> list[Counted | str]:
    """What each shard holds, or why it cannot be read."""
    scanned = sum(shard.size for shard in shards if not shard.is_parquet)
    if len(shards) <= SHARDS_COUNTED_HERE and scanned <= BYTES_COUNTED_HERE:
        return plan.look_at(shards, settings)
    start_ray()
    size = math.ceil(len(shards) / 256)
    chunks = [shards[start : start + size] for start in range(0, len(shards), size)]
    # A lambda takes no more modules along than it names: those of this file load for seconds.
    look = ray.remote(lambda chunk: plan.look_at(chunk, settings))
    counts = ray.get([look.remote(chunk) for chunk in chunks])
    return [count for some in counts for count in some]


def _steps(
    config: ScoreConfig, checkpoint: Checkpoint, output: Output, schema: pa.Schema
) -> tuple[PartReader, PartScorer]:
    """What reads parts, and what scores and writes them."""
    reader = PartReader(
        encoder=Tokenizer(checkpoint.stop_words).encoder(checkpoint.words),
        text_column=config.text_column,
        schema=schema,
        encoding=config.encoding,
        max_tokens=config.max_tokens,
    )
    infer = inference(checkpoint.weights, checkpoint.bigrams, config.use_gpu, config.batch_size)
    return reader, PartScorer(infer, output.directory, checkpoint.model_hash, writer=output.writer)


def _score(
    items: list[dict[str, str]],
    reader: PartReader,
    scorer: PartScorer,
    config: ScoreConfig,
    start_ray: Callable[[], None],
) -> Generator[dict[str, Any], None, None]:
    """What was done for each part, as they are done: one here, several on Ray Data."""
    if len(items) == 1 and not config.use_gpu:
        yield PartWorker(reader, scorer)(items[0])
        return
    start_ray()
    try:
        yield from _stream(items, reader, scorer, config)
    except RayTaskError:
        raise  # The exception of a task is a mistake in this program.
    except RayError as error:
        message = str(error).partition("\n")[0]
        raise Failure(f"Ray gave up ({message}): run the same command again") from error


def _stream(
    items: list[dict[str, str]],
    reader: PartReader,
    scorer: PartScorer,
    config: ScoreConfig,
) -> Iterable[dict[str, Any]]:
    """Parts on Ray Data.

    With GPUs tasks read and tokenize, and a pool of actors scores and writes. On CPUs, where
    reading is an eighth of the work, the actors do all of it: nothing crosses between processes,
    and there are half as many to start.
    """
    import_ray_data(config.verbose)
    # Its metrics are Ray's, which is not there where one part is scored without it.
    from pipelines.scoring.actor import PartActor

    resources = _resources(config)
    fewest, most = (min(number, len(items)) for number in resources["actors"])
    size = {"size": most} if fewest == most else {"min_size": fewest, "max_size": most}
    pool = {
        "compute": ray.data.ActorPoolStrategy(**size),
        "num_cpus": resources["actor_cpus"],
        "num_gpus": resources["gpus"] or None,
    }
    parts = ray.data.from_items(items, override_num_blocks=min(len(items), 1000))
    if resources["gpus"]:
        read = parts.map(reader, num_cpus=resources["task_cpus"])
        done = read.map(PartActor, fn_constructor_args=(scorer,), **pool)
    else:
        work = PartWorker(reader, scorer)
        done = parts.map(PartActor, fn_constructor_args=(work,), **pool)
    return rows_of(done)


def _resources(config: ScoreConfig) -> dict[str, Any]:
    """Actors, and what they and tasks ask for: a CPU, or less where there are more of them.

    Actors with a GPU ask for no CPU, so that the tasks that read for them always find one.
    """
    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    # An actor's share of a GPU is of one GPU.
    room = int(gpus) * int(1 / config.gpus_per_actor) if config.use_gpu else int(cpus)
    # Without any it is a cluster that is still to grow.
    asked = config.num_actors or room or (1, MOST_ACTORS)
    actors = asked if isinstance(asked, tuple) else (asked, asked)
    if config.use_gpu:
        # A cluster may grow; a machine does not.
        alone = len(ray.nodes()) == 1 and cpus > 0
        if alone and actors[1] > room:
            raise InputError(
                f"--use_gpu: {gpus:.0f} GPUs here, with room for {quantity(room, 'actor')}: use "
                "fewer --num_actors, a smaller --gpus_per_actor, or a cluster"
            )
        task_cpus = min(1.0, cpus / 2 or 1.0)
        share = config.gpus_per_actor
        return {"actors": actors, "actor_cpus": 0, "task_cpus": task_cpus, "gpus": share}
    # Ray counts resources in ten-thousandths.
    share = int(min(1.0, cpus / actors[0] or 1.0) * 10_000) / 10_000
    return {"actors": actors, "actor_cpus": share, "task_cpus": share, "gpus": 0}


def _say_how_to_read(directory: str, parts: list[Part]) -> None:
    """Show the schema and the first rows, and the line that reads them all."""
    for part in parts[:1]:
        filesystem, inner = storage.resolve(storage.join(directory, f"{part.name}.parquet"))
        with filesystem.open_input_file(inner) as file:
            rows = next(pq.ParquetFile(file).iter_batches(SAMPLES), None)
        if rows is not None:
            schema = ", ".join(f"{field.name} {field.type}" for field in rows.schema)
            print(f"\nSchema: {textwrap.shorten(printable(schema), 1000, placeholder=' ...')}")
            columns = [
                [_brief(name), *map(_brief, column.to_pylist())]
                for name, column in zip(rows.schema.names, rows.columns, strict=True)
            ]
            widths = [max(map(len, column)) for column in columns]
            for row in zip(*columns, strict=True):
                print("  ".join(map(str.rjust, row, widths)))
    print(f"""\nRead it: python -c "import pandas; print(pandas.read_parquet('{directory}'))\"""")


def _brief(value: object) -> str:
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(on_one_line(shown)[:WIDEST])


def _say_done(config: ScoreConfig, totals: Mapping[str, int], unreadable: int) -> None:
    """The last lines; the very last, if not all could be scored, says so."""
    share = totals["positive"] / max(totals["rows"], 1)
    print(f"\n{totals['rows']:,} rows scored, {share:.1%} positive, in {config.output}")
    if totals["truncated"]:
        print(
            f"{totals['truncated']:,} texts were scored on their first {config.max_tokens} tokens"
        )
    if totals["rejected"] or unreadable:
        print(
            f"{quantity(totals['rejected'], 'row')} and {quantity(unreadable, 'shard')} "
            f"could not be scored: see {storage.join(config.output, '_rejected')}"
        )
