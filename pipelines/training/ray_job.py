"""Run: prepare the corpus on Ray Data, train on Ray Train. Loads Ray."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.cluster.datasets import quiet_ray_data
from pipelines.cluster.resources import resources_per_worker
from pipelines.cluster.session import session
from pipelines.cluster.shared_directories import one_of_each_directory, require_shared
from pipelines.console.terminal import printable, quantity, say, warn
from pipelines.console.waiting import waiting
from pipelines.sources.shard import Shard
from pipelines.sources.split import FOLDS
from pipelines.training.best_checkpoint import final_checkpoint
from pipelines.training.cache import prepare
from pipelines.training.cache_sample import frequent_bigrams
from pipelines.training.config import TrainConfig
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.initial_weights import damage, of_checkpoint, of_words
from pipelines.training.ray_trainer import fit
from pipelines.training.run_checkpoints import mend_list
from pipelines.training.run_directory import (
    INITIAL,
    contents,
    has_checkpoints,
    takes_more_steps,
    write_flags,
)
from pipelines.training.settings import Settings, make_settings
from pipelines.training.settings_files import preset_hint
from sentiment import storage
from sentiment.checkpoint import Checkpoint, require_size
from sentiment.network import BACKWARD, FORWARD


def run(
    config: TrainConfig,
    spec: CorpusSpec,
    initial: Checkpoint | None,
    cache: str,
    runs: str,
    name: str,
) -> Checkpoint:
    """Train the run `name`, or resume it.

    Args:
        config: the flags.
        spec: what the corpus is made of.
        initial: the model to start from; None: from random weights.
        cache: directory or URI of prepared corpora.
        runs: directory or URI of the runs' directories.
        name: of the run.

    Returns:
        The checkpoint of the best validation.
    """
    directory = storage.join(runs, name)
    if line := mend_list(directory, name):
        warn(f"Warning: {printable(line)}")
    with session(config.verbose), quiet_ray_data(config.verbose):
        require_shared(
            [
                *_one_of_each("--data_dir", spec.shards),
                *_one_of_each("--unlabelled", spec.unlabelled.shards if spec.unlabelled else ()),
                ("--cache_dir", cache),
                ("--checkpoints_root", config.checkpoints_root),
                ("--summaries_dir", config.summaries_dir),
            ]
        )
        # Before the corpus is prepared, which may take hours.
        least, _ = config.workers
        per_worker = resources_per_worker(least, config.use_gpu, config.cpus_per_worker)
        say(f"Preparing {quantity(len(spec.shards), 'shard')} of {config.data_dir} ...")
        corpus = prepare(spec, cache, config.max_rejected)
        for line in corpus.description():
            say(printable(line))
        if hint := preset_hint(config.preset, corpus.rows["train"]):
            say(hint)
        settings = make_settings(config, corpus, storage.join(config.summaries_dir, name))
        is_longer = takes_more_steps(directory, name, settings.steps, corpus.rows["train"])
        settings = add_bigrams_and_initial_weights(settings, config, initial, directory)
        hashes = contents(spec.stop_words, initial)
        write_flags(config, corpus.key, hashes, directory, is_longer=is_longer)
        say(_description(config, settings, name))
        fitted = fit(config, settings, per_worker, runs, name)
    return final_checkpoint(config, settings, spec.stop_words, fitted)


def _one_of_each(flag: str, shards: Sequence[Shard]) -> list[tuple[str, str]]:
    """A shard of each directory, with the flag."""
    return [(flag, path) for path in one_of_each_directory(shard.path for shard in shards)]


def add_bigrams_and_initial_weights(
    settings: Settings, config: TrainConfig, initial: Checkpoint | None, directory: str
) -> Settings:
    """The settings with the bigrams and initial weights that the flags ask for.

    The bigrams of an initial model come first; those of the corpus are added to them.

    Raises InputError if the model would be too large to be loaded.
    """
    corpus, vocabulary = settings.corpus, settings.corpus.vocabulary
    bigrams = list(initial.vocabulary[len(initial.words) :]) if initial else []
    if config.bigrams:
        with waiting("Choosing the bigrams"):
            bigrams += frequent_bigrams(corpus, settings.sequence_len, config.bigrams)
    vocabulary = (*vocabulary, *dict.fromkeys(bigrams))
    lstms = (FORWARD, BACKWARD) if config.bidirectional else (FORWARD,)
    # Before training, not when the trained model cannot be loaded.
    require_size(len(vocabulary), config.embedding_size, config.hidden_size, lstms)
    settings = replace(settings, vocabulary=vocabulary)
    path = storage.join(directory, INITIAL)
    # A run that is resumed has its weights. Before the first checkpoint there may be a file, which
    # other flags have left.
    if has_checkpoints(directory) and storage.exists(path):
        if not (why := damage(path)):
            return replace(settings, initial=path)
        warn(f"Warning: {printable(path)} is damaged ({why}): it is made again")
    with waiting("Making the vectors of words that training starts from"):
        if initial:
            weights = of_checkpoint(initial, vocabulary, corpus.classes)
        elif found := of_words(config, corpus, settings.sequence_len):
            weights = found
        else:
            storage.remove_if_there(path)
            return settings
    storage.write(path, weights.to_bytes())
    if initial or config.initial_vectors != "cooccurrence":
        say(
            f"Initial weights: {len(weights.ids):,} of {len(vocabulary):,} words and bigrams from "
            f"{printable(str(config.initial_checkpoint or config.initial_vectors))}"
        )
    return replace(settings, initial=path)


def _description(config: TrainConfig, settings: Settings, name: str) -> str:
    """Lines that say what is trained."""
    least, most = config.workers
    rows, words = settings.corpus.rows, len(settings.corpus.vocabulary)
    bigrams = len(settings.vocabulary) - words
    entries = f"{words:,} words" + (f" and {bigrams:,} bigrams" if bigrams else "")
    lines = [
        f"Run {name}: {rows['train']:,} rows to train, {rows['validation']:,} to validate, "
        f"{rows['test']:,} held out; {entries}; longest text {settings.corpus.longest} tokens",
        f"{settings.steps:,} steps of {settings.batch_size} rows on "
        f"{f'{least} to ' if least < most else ''}{quantity(most, 'worker')} ...",
    ]
    if settings.cross_fits:
        lines.insert(
            1,
            f"Few rows validate, so training rows do, too: {FOLDS} more models each answer a part "
            "of them that they did not learn",
        )
    return "\n".join(lines)
