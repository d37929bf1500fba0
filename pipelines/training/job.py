"""The training job: check the flags, train unless the run is finished, save the best checkpoint.

Shards -> cache of token ids (`cache`) -> batches (`batches`) -> steps (`loop`) -> checkpoint.
"""

import time
from dataclasses import replace

from pipelines.console.terminal import printable, say, warn
from pipelines.console.waiting import compiling_said, waiting
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import LabelMap
from pipelines.sources.listing import directory_of, find, find_labelled
from pipelines.sources.split import Split
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.initial_weights import require_initial_vectors, require_same_model
from pipelines.training.run_directory import (
    STEP_FLAGS,
    alone_in,
    changed_flags,
    has_checkpoints,
    other_corpus,
    require_trained_with,
)
from pipelines.training.settings import require_threshold_fits
from pipelines.training.stop_words import read_stop_words
from pipelines.training.unlabelled import UnlabelledShards
from sentiment import storage
from sentiment.checkpoint import MANIFEST, Checkpoint, load, pinned, save
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
    stop_words = read_stop_words(config.stopwords_file)
    has_format = config.format is not None
    found = find_labelled(config.data_dir, "--data_dir", config.where, has_format)
    shards, remarks = found.shards, [found.remark]
    options, labels = config.read_options(), LabelMap.parse(config.labels)
    if labels:
        require_threshold_fits(config, labels.names)
    reader = LabelledReader(
        config.text_column, config.label_column, options, labels, config.soft_labels
    )
    reader.require_columns(shards[0])
    remarks += reader.detected(shards)
    initial = None
    if config.initial_checkpoint is not None:
        # The run's record has the commit, not the branch that leads to another one later.
        config = replace(config, initial_checkpoint=pinned(config.initial_checkpoint))
        initial = load(str(config.initial_checkpoint))
        require_same_model(config, stop_words, initial)
    unlabelled = None
    if config.unlabelled is not None:
        found = find([config.unlabelled], "--unlabelled", has_format=has_format)
        unlabelled = UnlabelledShards(tuple(found.shards), config.text_column, options)
        remarks.append(found.remark)
    spec = CorpusSpec(
        shards=shards,
        reader=reader,
        split=Split(config.random_state, config.test_size),
        stop_words=stop_words,
        n_samples=config.n_samples,
        min_share=config.min_share,
        unlabelled=unlabelled,
        words=initial.words if initial else (),
    )
    name = config.run_name or str(int(time.time()))
    model = storage.join(config.checkpoints_root, name)
    cache = config.cache_dir or storage.join(directory_of(config.data_dir, shards), "_prepared")
    storage.require_writable(config.checkpoints_root, "--checkpoints_root")
    runs = storage.join(storage.absolute(config.checkpoints_root), "_runs")
    directory = storage.join(runs, name)
    finished = _finished(model, directory)
    changed = changed_flags(config, directory, finished.training.get("flags") if finished else None)
    if finished and not has_checkpoints(directory):
        require_trained_with(config, finished.training.get("flags"))
    if finished and not changed.keys() & {*STEP_FLAGS, "early_stopping"}:
        say(f"Run {name} is finished: nothing to do.")
        if line := other_corpus(config, spec.key, directory):
            warn(f"Warning: {printable(line)} to train on them")
    else:
        if not has_checkpoints(directory):
            require_initial_vectors(config)
        storage.require_writable(cache, "--cache_dir")
        storage.require_writable(config.summaries_dir, "--summaries_dir")
        for remark in filter(None, remarks):
            say(printable(remark))
        for line in changed.values():
            say(f"Run {name} goes on: {line}")
        # Ray and TensorFlow take seconds to load: only where there is work.
        with waiting("Loading Ray"):
            from pipelines.training.mlflow_feed import mlflow_feed
            from pipelines.training.ray_job import run
            from pipelines.training.settings_files import written

        cache = storage.absolute(cache)
        with alone_in(directory, name), mlflow_feed(config, name, runs) as feed:
            checkpoint = run(config, spec, initial, cache, runs, name)
            flags = written(config, name)
            # Before the file that makes the checkpoint complete.
            storage.write(storage.join(model, CONFIG), flags)
            save(checkpoint, model)
            if feed:
                feed.finish(checkpoint, {CONFIG: flags})
        best = checkpoint.training["best"]
        say(
            f"Best validation: after step {best['step']:,}, loss {best['validation_loss']:.4f}, "
            f"accuracy {best['validation_accuracy']:.1%}\n"
            f"Next: python -m pipelines.evaluate --checkpoints_dir {model} --baseline"
        )
    say(f"Model saved in: {model}")
    return model


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
