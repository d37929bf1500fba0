"""The training job: prepare the corpus on Ray Data, train on Ray Train, take the best weights."""

import posixpath
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import ray.train
import safetensors.numpy
from ray.exceptions import RayError
from ray.train import Result, TrainingFailedError, WorkerGroupError

from pipelines.cluster.datasets import import_ray_data
from pipelines.cluster.ray_train_internals import (
    CHECKPOINT_NAME,
    SNAPSHOT,
    DataParallelTrainer,
    set_health_checks,
)
from pipelines.cluster.resources import resources_per_worker
from pipelines.cluster.session import session
from pipelines.cluster.shared_directories import require_shared
from pipelines.console.terminal import quantity, say
from pipelines.errors import Failure
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.shard import Shard
from pipelines.sources.split import Split
from pipelines.training import cache_sample as sample
from pipelines.training.cache import Corpus, prepare
from pipelines.training.config import TrainConfig
from pipelines.training.failures import Watch, fit_again, reason
from pipelines.training.loop import (
    Settings,
    holds_only_state,
    model_weights,
    read_state,
    train_loop,
)
from pipelines.training.progress import MessageListener
from pipelines.training.run_directory import (
    VECTORS,
    has_checkpoints,
    require_same_corpus,
    run_flags,
    write_flags,
)
from pipelines.training.summaries import mean_losses
from pipelines.training.tensorflow_cluster import TensorflowCluster
from sentiment import storage
from sentiment.checkpoint import BACKWARD, FORWARD, Checkpoint, require_size
from sentiment.errors import InputError

LOSSES = 200
"""Most points of the curve of losses that a checkpoint holds: 10 kB."""

DIVERGED = 10.0
"""Nats. No model that learns validates worse than that; guessing gives ln 2."""


def run(
    config: TrainConfig,
    shards: list[Shard],
    source: LabelledReader,
    stop_words: tuple[str, ...],
    cache: str,
    runs: str,
    name: str,
) -> Checkpoint:
    """Train, or resume, the run `name`, whose state is kept in `runs`; its best checkpoint."""
    with session(config.verbose):
        import_ray_data(config.verbose)
        paths = [("--data_dir", shards[0].path), ("--cache_dir", cache)]
        paths += [("--checkpoints_root", config.checkpoints_root)]
        require_shared([*paths, ("--summaries_dir", config.summaries_dir)])
        say(f"Preparing {quantity(len(shards), 'shard')} of {config.data_dir} ...")
        split = Split(config.random_state, config.test_size)
        corpus = prepare(
            shards, source, stop_words, split, config.n_samples, config.min_share, cache
        )
        settings = _settings(config, corpus, storage.join(config.summaries_dir, name))
        require_same_corpus(config, corpus.key, storage.join(runs, name))
        settings = _with_sample(settings, config, storage.join(runs, name))
        per_worker = resources_per_worker(config.num_workers, config.use_gpu)
        write_flags(config, corpus.key, storage.join(runs, name))
        rows = corpus.rows
        say(
            f"Run {name}: {rows['train']:,} rows to train, {rows['validation']:,} to validate, "
            f"{rows['test']:,} held out; {_entries(settings)}; "
            f"longest text {corpus.longest} tokens\n"
            f"{settings.steps:,} steps of {settings.batch_size} rows on "
            f"{quantity(config.num_workers, 'worker')} ..."
        )
        weights, history = _fit(config, settings, per_worker, runs, name)
    loss = min(validation["validation_loss"] for validation in history["validations"])
    if not loss < DIVERGED:
        raise Failure(
            f"training diverged: the best validation loss is {loss:.3g}, where guessing gives "
            f"0.69; --learning_rate {config.learning_rate} is too high"
        )
    training = _training(config, corpus, history, _losses(settings.summaries))
    best = training["best"]
    if config.calibrate:
        for weight in ("dense/kernel", "dense/bias"):
            weights[weight] = weights[weight] / np.float32(best["validation_temperature"])
    return Checkpoint(weights, settings.vocabulary, stop_words, training)


def _settings(config: TrainConfig, corpus: Corpus, summaries: str) -> Settings:
    train, validation = corpus.rows["train"], corpus.rows["validation"]
    if train < config.batch_size or not validation:
        raise InputError(
            f"--batch_size {config.batch_size}: {config.data_dir} has {train} rows to train and "
            f"{validation} to validate; use a smaller --batch_size or more rows"
        )
    if corpus.positive["train"] in (0, train):
        only = int(corpus.positive["train"] > 0)
        raise InputError(
            f"--label_column {config.label_column}: every training row of {config.data_dir} "
            f"is labelled {only}; a classifier needs both 0 and 1"
        )
    longest = config.sequence_len or max(corpus.longest, 1)
    if longest < corpus.longest and not config.truncate:
        raise InputError(
            f"--sequence_len {longest}: {corpus.longest_row} has {corpus.longest} tokens; "
            f"pass --sequence_len {corpus.longest}, or --truncate to cut longer texts"
        )
    steps = config.train_steps
    if config.epochs is not None:
        steps = config.epochs * (train // config.batch_size)
    return Settings(
        corpus=corpus,
        vocabulary=corpus.vocabulary,
        vectors=None,
        batch_size=config.batch_size,
        steps=steps,
        hidden_size=config.hidden_size,
        embedding_size=config.embedding_size,
        bidirectional=config.bidirectional,
        random_state=config.random_state,
        learning_rate=config.learning_rate,
        schedule=config.schedule,
        dropout_keep_prob=config.dropout_keep_prob,
        word_keep_prob=config.word_keep_prob,
        bigram_keep_prob=config.bigram_keep_prob,
        sequence_len=longest,
        validate_every=config.validate_every,
        early_stopping=config.early_stopping,
        summaries=storage.absolute(summaries),
        flags=run_flags(config),
        use_gpu=config.use_gpu,
    )


def _with_sample(settings: Settings, config: TrainConfig, run: str) -> Settings:
    """The settings with the bigrams and the first vectors that the flags ask for."""
    corpus, found = settings.corpus, {}
    if config.bigrams:
        pairs = sample.frequent_bigrams(corpus, settings.sequence_len, config.bigrams)
        found["vocabulary"] = (*corpus.vocabulary, *pairs)
    # Now, not when a model is trained that cannot be loaded.
    entries, both = len(found.get("vocabulary", corpus.vocabulary)), (FORWARD, BACKWARD)
    names = both if config.bidirectional else both[:1]
    require_size(entries, config.embedding_size, config.hidden_size, names)
    if config.initial_vectors == "cooccurrence":
        found["vectors"] = storage.join(run, VECTORS)
        # A run that is resumed has them; what one of other flags left, before it had a checkpoint,
        # is not to be taken.
        if not has_checkpoints(run):
            vectors = sample.word_vectors(corpus, settings.sequence_len, config.embedding_size)
            storage.write(found["vectors"], safetensors.numpy.save({"vectors": vectors}))
    return replace(settings, **found)


def _entries(settings: Settings) -> str:
    """How large the vocabulary is."""
    words = len(settings.corpus.vocabulary)
    pairs = len(settings.vocabulary) - words
    return f"{words:,} words" + (f" and {pairs:,} bigrams" if pairs else "")


def _fit(
    config: TrainConfig, settings: Settings, per_worker: dict[str, float], runs: str, name: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Train; the weights that validated best, and the losses and validations of the whole run."""
    # A worker that hangs holds up all of them. Every validation waits for the next health check.
    set_health_checks(timeout_seconds=60, interval_seconds=0.2)
    filesystem, storage_path = storage.resolve(runs)
    with MessageListener() as listener:
        trainer = DataParallelTrainer(
            train_loop,
            backend_config=TensorflowCluster(),
            train_loop_config={"settings": settings, "messages": listener.messages},
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.num_workers,
                use_gpu=config.use_gpu,
                resources_per_worker=per_worker,
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=storage_path,
                storage_filesystem=filesystem,
                failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(
                    num_to_keep=config.keep_checkpoints,
                    checkpoint_score_attribute="validation_loss",
                    checkpoint_score_order="min",
                ),
                callbacks=[Watch(listener.messages, config.max_failures)],
            ),
        )
        try:
            persistent = partial(fit_again, trainer.fit, listener.messages, config.max_failures)
            result = _in_a_thread(persistent)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; the same command with --run_name {name} goes on"
            ) from None
        except RayError as error:
            message = str(error).partition("\n")[0]
            raise Failure(
                f"Ray gave up ({message}); the same command with --run_name {name} goes on"
            ) from error
        except TrainingFailedError as error:
            raise Failure(
                f"{_said(error, config.max_failures + 1)}; "
                f"the same command with --run_name {name} tries again"
            ) from error
    _, history = read_state(result.checkpoint)
    state, _ = read_state(result.get_best_checkpoint("validation_loss", "min"))
    registered = [result.checkpoint, *(checkpoint for checkpoint, _ in result.best_checkpoints)]
    remove_unregistered(filesystem, posixpath.join(storage_path, name), registered)
    return model_weights(state), history


def remove_unregistered(
    filesystem: pafs.FileSystem, run: str, registered: list[ray.train.Checkpoint]
) -> None:
    """Remove checkpoints of the run that a process left when it died before Ray Train listed them.

    Removes only directories that are named as Ray Train names checkpoints and hold nothing but
    files of ours, and none at all where Ray Train's own names are not the ones we know.
    """
    kept = {posixpath.basename(checkpoint.path) for checkpoint in registered}
    entries = filesystem.get_file_info(pafs.FileSelector(run))
    if SNAPSHOT not in {info.base_name for info in entries} or not all(
        map(CHECKPOINT_NAME.fullmatch, kept)
    ):
        return
    for info in entries:
        if (
            info.type == pafs.FileType.Directory
            and CHECKPOINT_NAME.fullmatch(info.base_name)
            and info.base_name not in kept
            and holds_only_state(filesystem, info.path)
        ):
            filesystem.delete_dir(info.path)


def _in_a_thread(fit: Callable[[], Result]) -> Result:
    """What `fit` returns or raises. In the main thread Ray Train would take Ctrl-C for itself."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(fit())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    # Ctrl-C may wake another of Ray's threads: this one looks now and then.
    while not done.done():
        wait([done], timeout=0.2)
    return done.result()


def _losses(summaries: str) -> list[dict[str, float]]:
    try:
        return mean_losses(summaries, LOSSES)
    except (OSError, ValueError, TypeError, KeyError):
        return []  # Somebody has moved or edited it: a curve is not worth a model.


def _training(
    config: TrainConfig, corpus: Corpus, history: dict[str, Any], losses: list[dict[str, float]]
) -> dict[str, Any]:
    """How the model came about, for its checkpoint."""
    best = min(history["validations"], key=lambda validation: validation["validation_loss"])
    return {
        "flags": asdict(config),
        "rows": corpus.rows,
        "positive": corpus.positive,
        "sample_below": corpus.sample_below,
        "longest": corpus.longest,
        # What scoring compares its texts with; the tokens of texts before they are cut.
        "learnt": {
            "rows": corpus.rows["train"],
            "truncated": corpus.longer_than(config.sequence_len or corpus.longest),
            "tokens": corpus.tokens,
            "unknown": corpus.unknown,
        },
        "best": best,
        "validations": history["validations"],
        "losses": losses,
        "versions": {name: version(name) for name in ("keras", "ray", "tensorflow")},
    }


def _said(error: TrainingFailedError, tries: int) -> str:
    if isinstance(error, WorkerGroupError):
        return f"training failed in try {tries} of {tries}: {reason(error.worker_failures)}"
    failure = getattr(error, "controller_failure", error)
    return f"training failed: {str(failure).strip().splitlines()[0]}"
