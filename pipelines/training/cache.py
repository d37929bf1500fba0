"""The cache: labelled shards prepared once, as token ids in the order of a hash.

That order is a shuffle that does not depend on the sharding, and keeps equal texts apart. A
prepared corpus is a directory:

    train-00000.arrow ...       Arrow IPC, one batch: hash (uint64), label (int16), ids (list);
                                of soft labels target (float32 of each class) instead of label
    validation-00000.arrow ...
    unlabelled.arrow            token ids of a sample of texts without labels, if they are given
    corpus.json                 a `Corpus`; written last: a directory without it is not complete

Its name is a hash of its `CorpusSpec`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

import numpy as np

from pipelines.cluster.ray_internals import ExecutionWatcher, data_options
from pipelines.cluster.tasks import map_in_order
from pipelines.console.terminal import printable, warn
from pipelines.errors import Failure
from pipelines.sources.left_out import require_few_rejected
from pipelines.sources.pieces import ShardPiece, divided
from pipelines.sources.split import TRAIN, VALIDATION, Split
from pipelines.training.cache_executors import LocalCacheExecutor, RayCacheExecutor
from pipelines.training.cache_steps import (
    SPLITS,
    PieceCopies,
    PieceCounts,
    PieceSample,
    WrittenFile,
    count_copies,
    count_piece,
    encode_piece,
    sample_piece,
    write_file,
)
from pipelines.training.copies import CopyNumbers, FrequentTexts
from pipelines.training.corpus_classes import CorpusClasses, decide_classes
from pipelines.training.corpus_spec import CorpusSpec
from pipelines.training.prepared_corpus import Corpus
from pipelines.training.unlabelled import FILE as UNLABELLED
from pipelines.training.unlabelled import UnlabelledSample, UnlabelledShards
from sentiment import storage
from sentiment.errors import UNREADABLE, InputError, on_one_line
from sentiment.text import vocabulary
from sentiment.text.tokenizer import SPECIALS, Encoder, Tokenizer

CORPUS = "corpus.json"

FILE_ROWS = 2**17
"""Rows of a file, approximately. They are sorted in memory: some 10 MB of short texts."""

LOCAL_BYTES = 16 * 2**20
"""Shards of this size together, or less, are prepared in this process: Ray Data takes longer to
start."""

SHUFFLE_BYTES = 2**28
"""Size of the rows that a task of Ray Data distributes at once, by file or by token; Ray's default
is a GiB."""


def prepare(spec: CorpusSpec, cache_dir: str, max_rejected: str = "1%") -> Corpus:
    """The prepared corpus: from the cache if it is there, else prepared now.

    Args:
        spec: what it is made of.
        cache_dir: directory or URI of prepared corpora.
        max_rejected: labelled rows that may be left out because they cannot be used, a number or a
            share.

    Raises InputError for a shard that cannot be used, for labels that are no classes, and if more
    rows are rejected than may be.
    """
    directory = storage.join(cache_dir, spec.key)
    path = storage.join(directory, CORPUS)
    if corpus := _prepared(directory, path):
        require_few_rejected(corpus.left_out, corpus.usable, max_rejected)
        return corpus
    options = {
        "shuffle_input_batch_bytes": SHUFFLE_BYTES,
        "custom_execution_callback_classes": [ExecutionWatcher],
    }
    try:
        with data_options(**options):
            corpus = _make(spec, directory, max_rejected)
        storage.write(path, corpus.to_json())
    except OSError as error:
        # Of what is read, it would be Unavailable, which is none.
        message = f"--cache_dir: {directory} cannot be written: {on_one_line(error)}"
        raise Failure(f"{message}: run the same command again") from error
    return corpus


def _prepared(directory: str, path: str) -> Corpus | None:
    """The corpus whose `corpus.json` has that path, if it is there and whole."""
    try:
        corpus = Corpus.from_json(directory, storage.read(path))
        damage = corpus.damage()
    except FileNotFoundError:
        return None
    except (*UNREADABLE, AttributeError):
        damage = f"{CORPUS} cannot be read"
    if damage:
        warn(f"Warning: {printable(directory)} is damaged ({damage}): it is prepared again")
        return None
    return corpus


def _make(spec: CorpusSpec, directory: str, max_rejected: str) -> Corpus:
    """Prepare the corpus in three passes over its pieces: sample, count, encode."""
    # Tasks take what a step closes over: not all the shards.
    reader, split, tokenizer = spec.reader, spec.split, Tokenizer(spec.stop_words)
    executor: LocalCacheExecutor | RayCacheExecutor
    if sum(shard.size for shard in spec.shards) <= LOCAL_BYTES:
        pieces = [ShardPiece.whole(shard) for shard in spec.shards]
        executor = LocalCacheExecutor(pieces)
    else:
        pieces = divided(spec.shards, partial(map_in_order, reader.count))
        executor = RayCacheExecutor(pieces)
    if spec.n_samples is not None:
        split = _sampling_split(executor, spec, tokenizer, spec.n_samples)

    counts = executor.count(lambda piece: count_piece(piece, reader, tokenizer, split))
    _require_good(counts)
    classes = decide_classes(counts, reader, max_rejected)
    rows = classes.rows
    longest = max(counts, key=lambda count: count.longest)
    distinct = sum(count.distinct_tokens for count in counts)
    frequencies = vocabulary.merge(executor.frequencies(distinct, rows["train"], spec.min_share))
    frequent = vocabulary.frequent(frequencies, rows["train"], spec.min_share)
    sample = _unlabelled_sample(spec.unlabelled, tokenizer, split) if spec.unlabelled else None
    if sample:
        frequent = vocabulary.merge([frequent, sample.frequencies(tokenizer, spec.min_share)])
    # The rare ones are left out already.
    tokens = vocabulary.build(frequent, 1, min_share=0, always=spec.words)
    if len(tokens) == len(SPECIALS):
        raise InputError(
            f"--min_share {spec.min_share}: no word is in a larger share of the training texts, so "
            "there is nothing to learn from"
        )

    encoder = tokenizer.encoder(tokens)
    sizes = {}
    if sample:
        sizes[UNLABELLED] = sample.write(encoder, directory)
    files = math.ceil(max(rows["train"], rows["validation"], 1) / FILE_ROWS)
    copies = _copy_numbers(executor, pieces, counts, classes, encoder, split)
    written = executor.write(
        lambda piece: encode_piece(piece, classes.reader, encoder, split, files, copies),
        lambda table: write_file(table, files, directory),
        files,
    )
    training = [file for file in written if file.name.startswith(SPLITS[TRAIN])]
    validation = [file for file in written if file.name.startswith(SPLITS[VALIDATION])]
    return Corpus(
        directory=directory,
        rows=rows,
        classes=classes.names,
        labels=classes.labels,
        label_values=classes.label_values,
        soft_labels=classes.is_soft,
        usable=int(classes.counted.sum()),
        left_out=classes.left_out,
        longest=longest.longest,
        longest_row=longest.longest_row,
        sample_below=split.sample_below,
        vocabulary=tuple(tokens),
        unknown=sum(file.unknown for file in training),
        lengths=_merged_lengths(training),
        validation_tokens=sum(length * n for length, n in _merged_lengths(validation)),
        validation_unknown=sum(file.unknown for file in validation),
        files={
            name: sorted(file.name for file in written if file.name.startswith(name))
            for name in ("train", "validation")
        },
        unlabelled=len(sample.texts) if sample else 0,
        unlabelled_rejected=sample.rejected if sample else 0,
        sizes=sizes | {file.name: file.size for file in sorted(written, key=attrgetter("name"))},
    )


def _unlabelled_sample(
    unlabelled: UnlabelledShards, tokenizer: Tokenizer, split: Split
) -> UnlabelledSample:
    """The sample of texts without labels, read in this process if they are few."""
    is_little = sum(shard.size for shard in unlabelled.shards) <= LOCAL_BYTES
    return unlabelled.sample(tokenizer, split, map if is_little else map_in_order)


def _sampling_split(
    executor: LocalCacheExecutor | RayCacheExecutor, spec: CorpusSpec, tokenizer: Tokenizer, n: int
) -> Split:
    """The split with a bound of the sampling hashes, so that at most n rows take part."""
    reader, split = spec.reader, spec.split
    samples = executor.each(lambda piece: sample_piece(piece, reader, tokenizer, split, n))
    _require_good(samples)
    return replace(split, sample_below=_threshold([sample.hashes for sample in samples], n))


def _copy_numbers(
    executor: LocalCacheExecutor | RayCacheExecutor,
    pieces: list[ShardPiece],
    counts: list[PieceCounts],
    classes: CorpusClasses,
    encoder: Encoder,
    split: Split,
) -> CopyNumbers:
    """The numbers of the copies of texts that have very many: another pass, if there may be any."""
    rows = int(classes.counted.sum())
    hashes = FrequentTexts.merged(count.frequent for count in counts).candidates(rows)
    hashes = hashes[np.isin(split(hashes), (TRAIN, VALIDATION))]
    counted = {}
    if len(hashes):
        k = len(classes.names)
        found = executor.each(lambda piece: count_copies(piece, classes.reader, encoder, hashes, k))
        _require_good(found)
        counted = {piece: each.copies for piece, each in zip(pieces, found, strict=True)}
    return CopyNumbers.of(hashes, counted, rows)


def _require_good(
    outcomes: Sequence[PieceCounts] | Sequence[PieceSample] | Sequence[PieceCopies],
) -> None:
    """Raise InputError for the first piece that has an error, or Failure if it is an outage.

    Tasks return errors: what Ray Data raises for an error that a task raised has lost its cause.
    """
    for outcome in outcomes:
        if outcome.is_outage:
            raise Failure(f"{outcome.error}: run the same command again")
        if outcome.error:
            raise InputError(outcome.error)


def _threshold(hashes: list[bytes], n: int) -> int | None:
    """The greatest bound that at most n hashes are below, so that equal texts stay together.

    Args:
        hashes: uint64[...] of each piece, as bytes: its n + 1 smallest sampling hashes.
        n: rows to use at most.
    """
    smallest = np.sort(np.concatenate([np.frombuffer(each, np.uint64) for each in hashes]))
    return int(smallest[n]) if len(smallest) > n else None


def _merged_lengths(files: list[WrittenFile]) -> list[list[int]]:
    """Pairs of a number of tokens and how many texts have it, over all files, ascending."""
    lengths: Counter[int] = Counter()
    for file in files:
        for length, texts in np.frombuffer(file.lengths, np.int64).reshape(-1, 2).tolist():
            lengths[length] += texts
    return [[length, texts] for length, texts in sorted(lengths.items())]
