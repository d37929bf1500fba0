"""The steps of preparing a corpus: sample, count and encode a piece of it, and write a file.

Executors run them in this process or as tasks of Ray Data.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.errors import Failure, Unavailable
from pipelines.sources.labelled import LabelledReader
from pipelines.sources.labels import require_few
from pipelines.sources.left_out import LeftOut
from pipelines.sources.pieces import ShardPiece
from pipelines.sources.split import LEFT_OUT, TEST, TRAIN, VALIDATION, Split
from pipelines.training.copies import (
    CopyNumbers,
    FrequentTexts,
    copy_keys,
    places_of,
    running_numbers,
)
from sentiment import storage
from sentiment.errors import InputError, on_one_line
from sentiment.text import vocabulary
from sentiment.text.tokenizer import UNKNOWN, Encoder, Tokenizer, mix

SPLITS = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}

FILE_SEED, ORDER_SEED = 5, 2
"""Of the hashes that choose a copy's file, and its place there. Split uses no seed that is 2 modulo
3."""

SIDES = LEFT_OUT + 1
"""The sides of a split, with that of the rows which a sample leaves out."""


@dataclass(frozen=True)
class PieceSample:
    """The texts of a piece that may take part in a sample of n rows."""

    error: str
    """Why the shard cannot be used; empty if it can."""
    is_outage: bool
    """Whether that is no fault of the shard's."""
    hashes: bytes
    """uint64[at most n + 1]: the smallest sampling hashes, ascending."""


@dataclass(frozen=True)
class PieceCounts:
    """Counts of a piece."""

    error: str
    """Why the shard cannot be used; empty if it can."""
    is_outage: bool
    """Whether that is no fault of the shard's."""
    labels: dict[str, list[int]]
    """Rows with each label in train, validation and test, and of those left out of a sample."""
    is_soft: bool
    """Whether the labels are probabilities; then these are the rows by the largest one."""
    left_out: LeftOut
    """The rows that are not learnt from."""
    frequent: FrequentTexts
    """The texts with most copies."""
    longest: int
    """Tokens of the longest text."""
    longest_row: str
    """Where the longest text stands: `SHARD, row NUMBER`."""
    distinct_tokens: int
    """Distinct tokens of the training texts."""
    frequencies: pa.Table | None
    """`token`: string, `texts`: int64, in how many training texts it is. None where an executor
    keeps the table elsewhere."""


@dataclass(frozen=True)
class PieceCopies:
    """The copies of some texts in a piece."""

    error: str
    """Why the shard cannot be used; empty if it can."""
    is_outage: bool
    """Whether that is no fault of the shard's."""
    copies: np.ndarray
    """int64[texts, K]: copies with each label."""


@dataclass(frozen=True)
class WrittenFile:
    """A file of the cache."""

    name: str
    unknown: int
    """Tokens without an id of their own."""
    size: int
    """Bytes."""
    lengths: bytes
    """int64[distinct, 2]: pairs of a number of tokens and how many texts have it, ascending."""


def sample_piece(
    piece: ShardPiece, reader: LabelledReader, tokenizer: Tokenizer, split: Split, n: int
) -> PieceSample:
    """The n + 1 smallest sampling hashes of a piece."""
    smallest = np.empty(0, np.uint64)
    try:
        for rows in reader.read(piece.shard, tokenizer.tokens, piece.span):
            smallest = np.append(smallest, split.sampling_hashes(rows.tokens.hashes))
            smallest = np.sort(smallest)[: n + 1]
    except (InputError, Failure) as error:
        return PieceSample(str(error), isinstance(error, Failure), b"")
    return PieceSample("", False, smallest.tobytes())


def count_piece(
    piece: ShardPiece, reader: LabelledReader, tokenizer: Tokenizer, split: Split
) -> PieceCounts:
    """Count a piece's rows by label and split, and the training texts that each token is in."""
    labels: dict[str, np.ndarray] = {}
    left_out, is_soft = LeftOut(), False
    longest, longest_row, error, is_outage = 0, "", "", False
    frequent = FrequentTexts.of(np.empty(0, np.uint64))
    frequencies: list[pa.Table] = []
    try:
        for rows in reader.read(piece.shard, tokenizer.tokens, piece.span):
            sides = split(rows.tokens.hashes)
            frequent = FrequentTexts.merged([frequent, FrequentTexts.of(rows.tokens.hashes)])
            left_out = LeftOut.merged([left_out, rows.left_out])
            is_soft = rows.probabilities is not None
            cells = rows.labels * SIDES + sides
            counted = np.bincount(cells, minlength=len(rows.values) * SIDES).reshape(-1, SIDES)
            for value, by_side in zip(rows.values, counted, strict=True):
                labels[value] = labels.get(value, 0) + by_side
            totals = {value: int(by_side.sum()) for value, by_side in labels.items()}
            require_few(totals, f"{piece.shard.path}: column {reader.label_column!r}")
            lengths = np.diff(rows.tokens.tokens.offsets.to_numpy())
            if len(lengths) and lengths.max() > longest:
                row = int(lengths.argmax())
                longest = int(lengths[row])
                longest_row = f"{piece.shard.path}, row {rows.numbers[row]}"
            training = rows.tokens.tokens.filter(pa.array(sides == TRAIN))
            frequencies.append(vocabulary.document_frequencies(training))
    except (InputError, Failure) as cause:
        error, is_outage = str(cause), isinstance(cause, Failure)
    merged = vocabulary.merge(frequencies)
    return PieceCounts(
        error=error,
        is_outage=is_outage,
        labels={value: by_side.tolist() for value, by_side in labels.items()},
        is_soft=is_soft,
        left_out=left_out,
        frequent=frequent,
        longest=longest,
        longest_row=longest_row,
        distinct_tokens=len(merged),
        frequencies=merged,
    )


def count_copies(
    piece: ShardPiece, reader: LabelledReader, encoder: Encoder, hashes: np.ndarray, classes: int
) -> PieceCopies:
    """Count the copies of the texts with these hashes (uint64[texts], ascending) in a piece."""
    copies = np.zeros((len(hashes), classes), np.int64)
    try:
        for rows in reader.read(piece.shard, encoder, piece.span):
            texts = places_of(rows.tokens.hashes, hashes)
            np.add.at(copies, (texts[texts >= 0], rows.labels[texts >= 0]), 1)
    except (InputError, Failure) as error:
        return PieceCopies(str(error), isinstance(error, Failure), copies)
    return PieceCopies("", False, copies)


def encode_piece(
    piece: ShardPiece,
    reader: LabelledReader,
    encoder: Encoder,
    split: Split,
    files: int,
    copies: CopyNumbers,
) -> Iterator[pa.Table]:
    """Token ids of the training and validation rows of a piece.

    Args:
        piece: to read.
        reader: of its shard, with the labels of each class.
        encoder: from text to token ids.
        split: assigns texts to train, validation and test.
        files: number of files of each split.
        copies: of the texts that have many.

    Yields tables with the columns

        file   int64: split code * files + number of the file
        hash   uint64: hash of the text
        copy   int64: number among the copies of the text, if there are many; else -1
        label  int16: the class; or of soft labels
        target fixed_size_list<float32>[K]: the probability of each class
        ids    large_list<int32>: token ids
    """
    first = copies.first_of(piece)
    for rows in reader.read(piece.shard, encoder, piece.span):
        if not len(rows.numbers):
            # Without labels it is unknown which column they would have.
            continue
        tokens = rows.tokens
        sides = split(tokens.hashes)
        # Each file holds an equal range of hashes, so about equally many rows.
        copy = copies.numbers(tokens.hashes, rows.labels, first)
        keys = np.where(copy < 0, tokens.hashes, copy_keys(tokens.hashes, copy, FILE_SEED))
        number = np.minimum(keys / 2.0**64 * files, files - 1).astype(np.int64)
        label = {"label": pa.array(rows.labels.astype(np.int16))}
        if rows.probabilities is not None:
            flat = pa.array(rows.probabilities.ravel())
            label = {"target": pa.FixedSizeListArray.from_arrays(flat, len(rows.values))}
        table = pa.table(
            {
                "file": sides * files + number,
                "hash": tokens.hashes,
                "copy": copy,
                **label,
                "ids": pa.LargeListArray.from_arrays(tokens.offsets, tokens.ids),
            }
        )
        yield table.filter(pa.array((sides == TRAIN) | (sides == VALIDATION)))


def write_file(rows: pa.Table, files: int, directory: str) -> WrittenFile:
    """Bring the rows of one file into a random order, and write them into the directory.

    Args:
        rows: of `encode_piece`, all with the same `file`.
        files: number of files of each split.
        directory: path or URI.

    Raises Unavailable if the file cannot be written.
    """
    side, number = divmod(rows["file"][0].as_py(), files)
    name = f"{SPLITS[side]}-{number:05d}.arrow"
    order = _shuffled(rows["hash"].to_numpy(), _label_keys(rows), rows["copy"].to_numpy())
    batch = rows.drop_columns(["file", "copy"]).take(order).combine_chunks().to_batches()[0]
    try:
        with storage.writing(storage.join(directory, name)) as file:
            with pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
            size = file.tell()
    except OSError as error:
        message = on_one_line(error)
        raise Unavailable(f"--cache_dir: {directory} cannot be written: {message}") from error
    ids = batch.column("ids")
    lengths, texts = np.unique(np.diff(ids.offsets.to_numpy()), return_counts=True)
    return WrittenFile(
        name=name,
        size=size,
        unknown=int(np.count_nonzero(ids.values.to_numpy() == UNKNOWN)),
        lengths=np.stack([lengths, texts], axis=1).astype(np.int64).tobytes(),
    )


def _label_keys(rows: pa.Table) -> np.ndarray:
    """A number for each row, by its label alone: int16[n], or uint64[n] of soft labels."""
    if "label" in rows.column_names:
        labels: np.ndarray = rows["label"].to_numpy()
        return labels
    targets = rows["target"].combine_chunks()
    bits = targets.flatten().to_numpy().view(np.uint32).reshape(len(rows), -1)
    keys = np.zeros(len(rows), np.uint64)
    for column in bits.T:
        keys = mix(keys ^ column, seed=0)
    return keys


def _shuffled(hashes: np.ndarray, labels: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """A random order of rows, int64[n], that depends on nothing but their content.

    Copies of a text are apart: each one has a place of its own, by its hash and its number among
    them. Copies with the same label are equal, so it does not matter which one is which.

    Args:
        hashes: uint64[n], of the texts.
        labels: int[n], equal for equal labels.
        copies: int64[n], the number of each row among the copies of its text; -1 if there are no
            others elsewhere.
    """
    by_content = np.lexsort((labels, copies, hashes))
    ordered, numbers = hashes[by_content], copies[by_content]
    numbers = np.where(numbers < 0, running_numbers(ordered), numbers)
    places = copy_keys(ordered, numbers, ORDER_SEED)
    shuffled: np.ndarray = by_content[np.argsort(places, kind="stable")]
    return shuffled
