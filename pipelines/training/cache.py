"""Labelled shards -> the cache: token ids of every text, sorted by a hash of it, as Arrow files.

Sorted by hash, the order is a shuffle that no sharding can change, and any range of rows is a
random sample. A cache directory holds

    train-00000.arrow ...       Arrow IPC, one record batch: hash (uint64), label (int8), ids (list)
    validation-00000.arrow ...
    corpus.json                 counts, vocabulary, settings; written last: without it, no cache

Its name is a hash of the shards and of every setting that changes its content.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from pipelines.cluster import ipc
from pipelines.cluster.datasets import rows_of, tables_of
from pipelines.cluster.ray_internals import set_data_options
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.shard import Shard
from pipelines.sources.split import TEST, TRAIN, VALIDATION, Split
from sentiment import storage
from sentiment.errors import InputError
from sentiment.text import vocabulary
from sentiment.text.tokenizer import SPECIALS, UNKNOWN, Encoder, Tokenizer

FORMAT = 3
CORPUS = "corpus.json"
SPLITS = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}

ROWS_A_FILE = 2**17
"""Rows that are sorted in memory and become one file, about: some 10 MB of short texts."""

BYTES_HERE = 16 * 2**20
"""Of shards that together are no larger, this process does all: to start, Ray Data takes longer."""

BYTES_A_SHUFFLE = 2**28
"""Of rows that a task of Ray Data deals out at once, by file or by token; by default a GiB."""

TOKENS_A_PARTITION = 500_000
"""Distinct tokens of single shards whose counts are added up together, about."""

Outcome = Callable[[dict[str, Any]], dict[str, Any]]
Encode = Callable[[dict[str, Any]], Iterator[pa.Table]]
Write = Callable[[pa.Table], dict[str, Any]]


@dataclass(frozen=True)
class Corpus:
    """What is known of a prepared corpus."""

    directory: str
    rows: dict[str, int]
    """Rows in `train`, `validation` and `test`."""
    positive: dict[str, int]
    longest: int
    """Tokens of the longest text."""
    longest_row: str
    """Where it stands, as "shard, row number"."""
    sample_below: int | None
    """See `Split.sample_below`."""
    vocabulary: tuple[str, ...]
    unknown: int
    """Tokens of the training texts that have no id of their own."""
    lengths: list[list[int]]
    """Of the training texts: numbers of tokens, and how many texts have each, as pairs."""
    files: dict[str, list[str]]
    """Names of the files of `train` and `validation`, in order."""

    @property
    def key(self) -> str:
        """The last part of its directory's name: a hash of shards and settings."""
        return self.directory.rpartition("/")[2]

    @property
    def tokens(self) -> int:
        """Tokens of the training texts."""
        return sum(length * texts for length, texts in self.lengths)

    def longer_than(self, tokens: int) -> int:
        """Training texts of more tokens than that."""
        return sum(texts for length, texts in self.lengths if length > tokens)


def prepare(
    shards: list[Shard],
    source: LabelledReader,
    stop_words: tuple[str, ...],
    split: Split,
    n_samples: int | None,
    min_share: float,
    cache_dir: str,
) -> Corpus:
    """The prepared corpus, from the cache if it is there, else made.

    Raises InputError, naming file and row, where a row cannot be learnt from.
    """
    settings = {
        "format": FORMAT,
        "shards": [asdict(shard) for shard in shards],
        "source": asdict(source),
        "stop_words": stop_words,
        "split": asdict(split),
        "n_samples": n_samples,
        "min_share": min_share,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    directory = storage.join(cache_dir, key)
    try:
        known = json.loads(storage.read(storage.join(directory, CORPUS)))
    except FileNotFoundError:
        known = _make(shards, source, stop_words, split, n_samples, min_share, directory)
        storage.write(storage.join(directory, CORPUS), json.dumps(known).encode())
    return Corpus(directory=directory, **known | {"vocabulary": tuple(known["vocabulary"])})


def _make(shards, source, stop_words, split, n_samples, min_share, directory) -> dict[str, Any]:
    tokenizer = Tokenizer(stop_words)
    small = sum(shard.size for shard in shards) <= BYTES_HERE
    each = (_Here if small else _OnRay)([asdict(shard) for shard in shards])
    sample_below = None
    if n_samples is not None:
        hashed = each.map(lambda shard: _smallest(shard, source, tokenizer, split, n_samples))
        sample_below = _threshold([found["hashes"] for found in _checked(hashed)], n_samples)
    split = Split(split.random_state, split.test_size, sample_below)

    counted = each.count(lambda shard: _count(shard, source, tokenizer, split))
    counts = _checked(counted)
    rows = {name: sum(count[name] for count in counts) for name in SPLITS.values()}
    positive = {name: sum(count[f"positive_{name}"] for count in counts) for name in rows}
    longest = max(counts, key=lambda count: count["longest"])
    distinct = sum(count["distinct"] for count in counts)
    tables = [vocabulary.document_frequencies(pa.array([], pa.list_(pa.string())))]
    tables += each.frequencies(distinct, rows["train"], min_share)
    tokens = vocabulary.build(vocabulary.merge(tables), rows["train"], min_share=min_share)
    if len(tokens) == len(SPECIALS):
        raise InputError(
            f"--min_share {min_share}: no word is in a larger share of the training texts, so "
            "there is nothing to learn from"
        )

    encoder = tokenizer.encoder(tokens)
    files = math.ceil(max(rows["train"], rows["validation"], 1) / ROWS_A_FILE)
    written = each.write(
        lambda shard: _encode(shard, source, encoder, split, files),
        lambda rows: _write_sorted(rows, files, directory),
        files,
    )
    names = sorted(file["name"] for file in written)
    trained = [file for file in written if file["name"].startswith(SPLITS[TRAIN])]
    lengths: Counter[int] = Counter()
    for file in trained:
        lengths.update(dict(np.frombuffer(file["lengths"], np.int64).reshape(-1, 2).tolist()))
    return {
        "rows": rows,
        "positive": positive,
        "longest": longest["longest"],
        "longest_row": longest["longest_row"],
        "sample_below": sample_below,
        "vocabulary": tokens,
        "unknown": sum(file["unknown"] for file in trained),
        "lengths": sorted(map(list, lengths.items())),
        "files": {
            name: [file for file in names if file.startswith(name)]
            for name in ("train", "validation")
        },
    }


class _Here:
    """What is done with every shard, by this process alone."""

    def __init__(self, shards: list[dict[str, Any]]) -> None:
        self._shards = shards

    def map(self, function: Outcome) -> list[dict[str, Any]]:
        """The function's outcome for every shard."""
        return [function(shard) for shard in self._shards]

    def count(self, function: Outcome) -> list[dict[str, Any]]:
        """The same; what it has in `frequencies` is kept."""
        counted = self.map(function)
        self._frequencies = [count.pop("frequencies") for count in counted]
        return counted

    def frequencies(self, distinct: int, texts: int, min_share: float) -> list[pa.Table]:
        """What was kept, as tables: of many shards, with a token's counts in one table or more."""
        return [ipc.from_bytes(frequencies) for frequencies in self._frequencies]

    def write(self, encode: Encode, write: Write, files: int) -> list[dict[str, Any]]:
        """Bring rows of the same `file` together and write each; what is in each."""
        rows = pa.concat_tables([table for shard in self._shards for table in encode(shard)])
        found = pc.unique(rows["file"])
        return [write(rows.filter(pc.equal(rows["file"], file))) for file in found]


class _OnRay:
    """The same by tasks of Ray Data, for any number of rows."""

    def __init__(self, shards: list[dict[str, Any]]) -> None:
        set_data_options(shuffle_input_batch_bytes=BYTES_A_SHUFFLE)
        self._shards = ray.data.from_items(shards)

    def map(self, function: Outcome) -> list[dict[str, Any]]:
        """See `_Here`."""
        return list(rows_of(self._shards.map(function)))

    def count(self, function: Outcome) -> list[dict[str, Any]]:
        """See `_Here`. Ray keeps the frequencies, on disk if need be.

        All the distinct tokens of a large corpus are too many for one process.
        """
        self._counted = self._shards.map(function).materialize()
        return list(rows_of(self._counted.drop_columns(["frequencies"])))

    def frequencies(self, distinct: int, texts: int, min_share: float) -> Iterator[pa.Table]:
        """See `_Here`; only tokens that are frequent enough come to this process."""
        tables = self._counted.map_batches(
            lambda batch: (ipc.from_bytes(content.as_py()) for content in batch["frequencies"]),
            batch_size=1,
            batch_format="pyarrow",
        )
        summed = tables.groupby(
            "token", num_partitions=math.ceil((distinct + 1) / TOKENS_A_PARTITION)
        ).sum("texts")
        frequent = summed.map_batches(
            lambda table: vocabulary.frequent(
                table.rename_columns(["token", "texts"]), texts, min_share
            ),
            batch_size=None,
            batch_format="pyarrow",
        )
        return tables_of(frequent)

    def write(self, encode: Encode, write: Write, files: int) -> list[dict[str, Any]]:
        """See `_Here`."""
        rows = self._shards.map_batches(
            lambda batch: (table for shard in batch.to_pylist() for table in encode(shard)),
            batch_size=1,
            batch_format="pyarrow",
        )
        written = rows.groupby("file", num_partitions=2 * files).map_groups(
            lambda rows: pa.Table.from_pylist([write(rows)]), batch_format="pyarrow"
        )
        return list(rows_of(written))


def _checked(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outcomes of all shards. Raises InputError for the first that has an error.

    A task returns it, because what Ray Data raises for one that a task raises has lost its cause.
    """
    for outcome in outcomes:
        if outcome["error"]:
            raise InputError(outcome["error"])
    return outcomes


def _smallest(
    shard, source: LabelledReader, tokenizer: Tokenizer, split: Split, n: int
) -> dict[str, Any]:
    smallest = np.empty(0, np.uint64)
    try:
        for rows in source.read(Shard(**shard), tokenizer.tokens):
            smallest = np.append(smallest, split.sampling_hashes(rows.tokens.hashes))
            smallest = np.sort(smallest)[: n + 1]
    except InputError as error:
        return {"error": str(error), "hashes": b""}
    return {"error": "", "hashes": smallest.tobytes()}


def _threshold(hashes: list[bytes], n: int) -> int | None:
    """The greatest bound that at most n rows are below: equal texts stay together."""
    smallest = np.sort(np.concatenate([np.frombuffer(some, np.uint64) for some in hashes]))
    return int(smallest[n]) if len(smallest) > n else None


def _count(shard, source: LabelledReader, tokenizer: Tokenizer, split: Split) -> dict[str, Any]:
    count: dict[str, Any] = dict.fromkeys(SPLITS.values(), 0)
    count |= {f"positive_{name}": 0 for name in SPLITS.values()}
    count |= {"longest": 0, "longest_row": "", "error": ""}
    frequencies = [vocabulary.document_frequencies(pa.array([], pa.list_(pa.string())))]
    try:
        for rows in source.read(Shard(**shard), tokenizer.tokens):
            labels, tokens = rows.labels, rows.tokens
            parts = split(tokens.hashes)
            for part, name in SPLITS.items():
                count[name] += int(np.count_nonzero(parts == part))
                count[f"positive_{name}"] += int(np.count_nonzero(labels[parts == part]))
            lengths = np.diff(tokens.tokens.offsets.to_numpy())
            if len(lengths) and lengths.max() > count["longest"]:
                row = int(lengths.argmax())
                count["longest"] = int(lengths[row])
                count["longest_row"] = f"{shard['path']}, row {rows.numbers[row]}"
            training = tokens.tokens.filter(pa.array(parts == TRAIN))
            frequencies.append(vocabulary.document_frequencies(training))
    except InputError as error:
        count["error"] = str(error)
    merged = vocabulary.merge(frequencies)
    return count | {"distinct": len(merged), "frequencies": ipc.to_bytes(merged)}


def _encode(
    shard: dict[str, Any], source: LabelledReader, encoder: Encoder, split: Split, files: int
) -> Iterator[pa.Table]:
    for rows in source.read(Shard(**shard), encoder):
        labels, tokens = rows.labels, rows.tokens
        parts = split(tokens.hashes)
        # Equal ranges of the hash: about equally many rows each, in order from file to file.
        number = np.minimum(tokens.hashes / 2.0**64 * files, files - 1).astype(np.int64)
        table = pa.table(
            {
                "file": parts * files + number,
                "hash": tokens.hashes,
                "label": labels,
                "ids": pa.LargeListArray.from_arrays(tokens.offsets, tokens.ids),
            }
        )
        yield table.filter(pa.array((parts == TRAIN) | (parts == VALIDATION)))


def _write_sorted(rows: pa.Table, files: int, directory: str) -> dict[str, Any]:
    part, number = divmod(rows["file"][0].as_py(), files)
    name = f"{SPLITS[part]}-{number:05d}.arrow"
    # Rows of equal hash have equal ids, so hash and label alone decide the order.
    rows = rows.drop_columns("file").sort_by([("hash", "ascending"), ("label", "ascending")])
    batch = rows.combine_chunks().to_batches()[0]
    with (
        storage.writing(storage.join(directory, name)) as file,
        pa.ipc.new_file(file, batch.schema) as writer,
    ):
        writer.write_batch(batch)
    ids = batch.column("ids")
    lengths = np.unique(np.diff(ids.offsets.to_numpy()), return_counts=True)
    return {
        "name": name,
        "unknown": int(np.count_nonzero(ids.values.to_numpy() == UNKNOWN)),
        "lengths": np.stack(lengths, axis=1).astype(np.int64).tobytes(),
    }
