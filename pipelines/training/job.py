"""The training job: check the flags, train unless the run is finished, save the best checkpoint.

Shards -> cache of token ids (`cache`) -> batches (`batches`) -> steps (`loop`) -> checkpoint.
"""

import time
from dataclasses import replace

from pipelines.cluster.submitted import require_lasting
from pipelines.console.terminal import percent, printable, say, warn
from pipelines.console.waiting import compiling_said, waiting
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.listing import directory_of, find, find_labelled
from pipelines.sources.split import Split, is_cross_fitted
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.initial_weights import (
    initial_model,
    require_initial_vectors,
    require_same_model,
)
from pipelines.training.run_directory import (
    STEP_FLAGS,
    alone_in,
    changed_flags,
    contents,
    has_checkpoints,
    other_contents,
    require_trained_with,
    was_shorter,
)
from pipelines.training.settings import require_threshold_fits
from pipelines.training.stop_words import read_stop_words
from pipelines.training.unlabelled import UnlabelledShards
from sentiment import storage
from sentiment.checkpoint import MANIFEST, Checkpoint, load, save
from sentiment.errors import InputError

CONFIG = "config.yaml"
"""File beside the checkpoint: the flags of the run, for `--config`."""


@compiling_said()
def main(config: TrainConfig) -> str:
    """Train the run that the flags describe, or resume it, and save its best checkpoint.

    Returns:
        The directory or URI of the checkpoint.

    Raises InputError for flags and rows that cannot be used, Failure where training fails.
    """
    require_lasting(config.checkpoints_root, "--checkpoints_root")
    require_lasting(config.summaries_dir, "--summaries_dir")
    stop_words = read_stop_words(config.stopwords_file)
    initial = None
    if config.initial_checkpoint is not None:
        # The run's record has the commit, not the branch that leads to another one later.
        path, initial = initial_model(config.initial_checkpoint)
        config = replace(config, initial_checkpoint=path)
    spec, remarks = _corpus(config, stop_words, initial)
    name = config.run_name or str(int(time.time()))
    model = storage.join(config.checkpoints_root, name)
    runs = storage.join(storage.absolute(config.checkpoints_root), "_runs")
    run = storage.join(runs, name)
    try:
        finished = _finished(model, run)
    except OSError:
        # What is wrong with the directory, with the flag's name.
        storage.require_writable(config.checkpoints_root, "--checkpoints_root")
        raise
    flags = finished.training.get("flags") if finished else None
    trained_with = flags if isinstance(flags, dict) else None
    changed = changed_flags(config, run, trained_with)
    if finished and not has_checkpoints(run):
        require_trained_with(config, trained_with)
    other = other_contents(config, spec.key, contents(stop_words, initial), run)
    if initial and not other:
        require_same_model(config, stop_words, initial)
    if finished and not changed.keys() & {*STEP_FLAGS, "early_stopping"}:
        say(f"Run {name} is finished: nothing to do.")
        if other:
            warn(f"Warning: {printable(other)} to train with what is there now")
    else:
        if other:
            raise InputError(other)
        remarks += [f"Run {name} goes on: {line}" for line in changed.values()]
        _train(config, spec, initial, runs, name, remarks)
    say(f"Model saved in: {model}")
    return model


def _corpus(
    config: TrainConfig, stop_words: tuple[str, ...], initial: Checkpoint | None
) -> tuple[CorpusSpec, list[str]]:
    """What the corpus is made of, and lines on the files that were found."""
    has_format = config.format is not None
    found = find_labelled(config.data_dir, "--data_dir", config.where, has_format)
    remarks = [found.remark]
    options, labels = config.read_options(), LabelMap.parse(config.labels)
    if labels:
        require_threshold_fits(config, labels.names)
    reader = LabelledReader(
        config.text_column, config.label_column, options, labels, config.soft_labels
    )
    reader.require_columns(found.shards[0])
    remarks += reader.detected(found.shards)
    unlabelled = None
    if config.unlabelled is not None:
        others = find([config.unlabelled], "--unlabelled", has_format=has_format)
        unlabelled = UnlabelledShards(tuple(others.shards), config.text_column, options)
        remarks.append(others.remark)
    spec = CorpusSpec(
        shards=found.shards,
        reader=reader,
        split=Split(config.random_state, config.test_size),
        stop_words=stop_words,
        n_samples=config.n_samples,
        min_share=config.min_share,
        unlabelled=unlabelled,
        words=initial.words if initial else (),
    )
    return spec, [printable(remark) for remark in remarks if remark]


def _train(
    config: TrainConfig,
    spec: CorpusSpec,
    initial: Checkpoint | None,
    runs: str,
    name: str,
    remarks: list[str],
) -> None:
    """Train the run `name`, and save its best checkpoint with the flags that train it again.

    Args:
        config: the flags.
        spec: what the corpus is made of.
        initial: the model to start from; None: from random weights.
        runs: directory or URI of the runs' directories.
        name: of the run.
        remarks: lines to print once it is sure that there is work.
    """
    run = storage.join(runs, name)
    model = storage.join(config.checkpoints_root, name)
    beside = storage.join(directory_of(config.data_dir, spec.shards), "_prepared")
    cache = config.cache_dir or beside
    if not has_checkpoints(run):
        require_initial_vectors(config)
    storage.require_writable(config.checkpoints_root, "--checkpoints_root")
    storage.require_writable(cache, "--cache_dir")
    storage.require_writable(config.summaries_dir, "--summaries_dir")
    for remark in remarks:
        say(remark)
    # Ray and TensorFlow take seconds to load: only where there is work.
    with waiting("Loading Ray"):
        from pipelines.training import ray_job
        from pipelines.training.from_scratch import is_another_from_scratch
        from pipelines.training.mlflow_feed import mlflow_feed
        from pipelines.training.settings_files import written

    with alone_in(run, name), mlflow_feed(config, name, runs) as feed:
        checkpoint = ray_job.run(config, spec, initial, storage.absolute(cache), runs, name)
        is_another = is_another_from_scratch(config, was_shorter(run), checkpoint.training)
        flags = written(config, name, is_another)
        # Before the file that makes the checkpoint complete.
        storage.write(storage.join(model, CONFIG), flags)
        save(checkpoint, model)
        if feed:
            feed.finish(checkpoint, {CONFIG: flags})
    best, rows = checkpoint.training["best"], checkpoint.training["rows"]
    # Validations know no threshold.
    of = "" if checkpoint.classes.threshold is None else " at 0.5"
    if is_cross_fitted(config.calibrate, rows["train"], rows["validation"], config.batch_size):
        of += ", also of the cross-fitted training rows"
    say(
        f"Best validation: after step {best['step']:,}, loss {best['validation_loss']:.4f}, "
        f"accuracy {percent(best['validation_accuracy'])}{of}\n"
        f"Next: python -m pipelines.evaluate --checkpoints_dir {model} --baseline"
    )


def _finished(model: str, run: str) -> Checkpoint | None:
    """The checkpoint that a run has left in the directory `model`; None: there is none.

    Of one that cannot be loaded, as the run's directory `run` can make it anew, there is none, too.
    Raises InputError if it cannot.
    """
    if not storage.exists(storage.join(model, MANIFEST)):
        return None
    try:
        return load(model)
    except InputError as error:
        if not has_checkpoints(run):
            raise
        warn(f"Warning: {printable(str(error))}: the run's own checkpoints make it anew")
        return None
