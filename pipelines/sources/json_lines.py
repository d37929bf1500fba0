"""Reader of JSON lines: an object a line; malformed lines are kept apart.

All columns are strings, so their types do not change from file to file: strings without their
escapes; numbers, `true` and `false` as they are written; objects and lists as their JSON. A key
that a row lacks is null, as are `null` and the `NaN` that pandas writes for what is missing. Of a
key that an object has twice the last counts. A column `a.b` is the key of that name, or else the
key `b` of the object `a`.

Lines that are blank are not rows. `Infinity`, which Python writes, is a number.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources._json_scan import (
    ABSENT,
    CUT_OFF,
    GOOD,
    INVALID,
    MAX_DEPTH,
    NESTED,
    NOT_AN_OBJECT,
    TOO_DEEP,
    Keys,
    Paths,
    gather,
    split_rows,
)
from pipelines.sources.blocks import Block, Located, blocks, count, cut_to
from pipelines.sources.counted import Counted
from pipelines.sources.decoding import TextFile
from pipelines.sources.detected import with_detected
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Rows, Span, require_few_columns, text_schema

_REASONS = {
    NOT_AN_OBJECT: "the line is not a JSON object",
    INVALID: "the line is not valid JSON",
    CUT_OFF: "the line is not valid JSON: its end is missing",
    TOO_DEEP: f"more than {MAX_DEPTH} objects or lists are inside each other",
}


def read_json_lines(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    options: ReadOptions,
    span: Span | None = None,
    optional: Sequence[str] = (),
) -> Iterator[Rows]:
    """The rows of a decompressed file of JSON lines; the arguments are those of `Shard.rows`.

    `columns` must not be None: only the whole file tells its keys. A row is malformed if the value
    of one of `columns` is an object or a list. Values of `optional` may be any.
    """
    if columns is None:
        raise ValueError("the columns of JSON lines are known when the file has been read")
    names = list(dict.fromkeys([*columns, *optional]))
    columns_of_rows = _Columns(names)
    file = TextFile(source, path, options.encoding)
    located = _blocks(file, path, columns_of_rows, None, span)
    for block, rows_before in cut_to(located, span, path):
        yield columns_of_rows.parse(block, len(dict.fromkeys(columns)), rows_before)


def count_json_lines(source: pa.NativeFile, path: str, options: ReadOptions) -> Counted:
    """Row count (malformed rows included), keys and marks of a file of JSON lines."""
    file = TextFile(source, path, options.encoding)
    asked, keys = _Columns(options.fields), Keys()
    located = _blocks(file, path, asked, keys)
    rows, marks = count(asked.noticed(located))
    # A file without rows lacks no column.
    names = _names(path, keys, asked) if rows else list(options.fields[:1])
    _require_objects(path, asked, names)
    schema = with_detected(text_schema(names), file.detected)
    return Counted(rows, schema, tuple(marks) if file.is_utf8 else ())


def json_lines_schema(source: pa.NativeFile, path: str, options: ReadOptions) -> pa.Schema:
    """The keys of a file of JSON lines, as far as it has to be read to find those asked for."""
    file = TextFile(source, path, options.encoding)
    asked, keys = _Columns(options.fields), Keys()
    names = list(options.fields[:1])
    for _ in asked.noticed(_blocks(file, path, asked, keys)):
        names = _names(path, keys, asked)
        if set(options.fields) <= set(names):
            break
    _require_objects(path, asked, names)
    return with_detected(text_schema(names), file.detected)


class _Columns:
    """The columns that are read, and where their values are."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        paths = []
        for name in self.names:
            parts = name.split(".")
            is_nested = len(parts) > 1 and all(parts)
            paths.append([[name], parts] if is_nested else [[name]])
        self.paths, slots = Paths.of(
            [[key.encode() for key in path] for each in paths for path in each]
        )
        left = iter(slots)
        self._slots = [[next(left) for _ in each] for each in paths]
        self._seen: set[str] = set()
        self.has_objects = False
        """Whether some row is well-formed, as far as `noticed` has gone."""
        self.first_flag = GOOD
        """The flag of the first row."""

    @property
    def seen(self) -> list[str]:
        """The columns that some row has, as far as `noticed` has gone."""
        return [name for name in self.names if name in self._seen]

    def noticed(self, located: Iterator[Located]) -> Iterator[Located]:
        """The same blocks; fills `seen`, `has_objects` and `first_flag`."""
        for one in located:
            self.has_objects |= bool((one.block.flags == GOOD).any())
            if not one.rows_before:
                self.first_flag = int(one.block.flags[0])
            for name, slots in zip(self.names, self._slots, strict=True):
                if any(one.block.spans[slot, :, 2].any() for slot in slots):
                    self._seen.add(name)
            yield one

    def parse(self, block: Block, wanted: int, rows_before: int) -> Rows:
        """The well-formed rows of a block as a table, and the others.

        The first `wanted` columns may not have objects or lists.
        """
        numbers = np.arange(rows_before + 1, rows_before + 1 + len(block))
        values = [self._values(block, slots) for slots in self._slots]
        is_good = block.flags == GOOD
        nested: dict[int, str] = {}
        for name, spans in zip(self.names[:wanted], values, strict=False):
            for row in np.flatnonzero(is_good & (spans[:, 2] == NESTED)).tolist():
                nested.setdefault(row, f"{name} is an object or a list, not a text")
        is_good[list(nested)] = False
        arrays = [_array(block.data, spans, is_good) for spans in values]
        bad = [
            block.bad_row(i, int(numbers[i]), nested.get(i) or _REASONS[int(block.flags[i])])
            for i in np.flatnonzero(~is_good).tolist()
        ]
        return Rows(pa.table(arrays, self.names), numbers[is_good], bad)

    @staticmethod
    def _values(block: Block, slots: list[int]) -> np.ndarray:
        """int32[rows, 3]: where the values of a column are, and their kinds."""
        spans: np.ndarray = block.spans[slots[0]]
        for slot in slots[1:]:
            spans = np.where(spans[:, 2:] == ABSENT, block.spans[slot], spans)
        return spans


def _array(data: bytes, spans: np.ndarray, is_good: np.ndarray) -> pa.Array:
    """The values of a column, binary."""
    offsets, values, is_valid = gather(data, spans, is_good)
    validity = None
    if not is_valid.all():
        validity = pa.py_buffer(np.packbits(is_valid, bitorder="little"))
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(values)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(is_valid), buffers)


def _blocks(
    file: TextFile, path: str, columns: _Columns, keys: Keys | None, span: Span | None = None
) -> Iterator[Located]:
    scan = partial(_scan, columns.paths, keys)
    if span is not None and span.mark_byte:
        chunks = file.chunks_from(span.mark_byte)
        return blocks(chunks, scan, path, span.mark_byte, span.mark_row)
    return _require_lines(blocks(file.chunks(), scan, path, file.start), path)


def _scan(paths: Paths, keys: Keys | None, data: bytes, begin: int, last: bool) -> Block:
    starts, ends, flags, spans, following = split_rows(data, begin, last, paths, keys)
    return Block(data, starts, ends, flags, flags, spans, following)


def _require_lines(located: Iterator[Located], path: str) -> Iterator[Located]:
    """The same blocks; raises BadShard for JSON that is one document over several lines."""
    for one in located:
        if not one.rows_before:
            first = one.block.raw(0).strip()
            if first == b"{" or first[:1] == b"[" or _goes_on(first, one.block.flags[:2].tolist()):
                raise BadShard(
                    f"{path} is one JSON document, not JSON lines: write an object a line, "
                    "for example with jq -c '.[]'"
                )
        yield one


def _goes_on(first: bytes, flags: list[int]) -> bool:
    """Whether a file's first line is the beginning of an object that ends in a later line.

    Args:
        first: the line, without blanks around it.
        flags: those of the first two rows.
    """
    if GOOD in flags or flags[0] != INVALID or not first.endswith(b","):
        return False
    try:
        return bool(json.loads(first[:-1] + b"}"))
    except ValueError:
        return False


def _require_objects(path: str, asked: _Columns, names: Sequence[str]) -> None:
    """Raise BadShard if the first column that is asked for is missing since no line is an object.

    `names`: the keys that were found, some of them in malformed lines.
    """
    if asked.has_objects or asked.first_flag == GOOD or set(asked.names[:1]) <= set(names):
        return
    if asked.first_flag == NOT_AN_OBJECT:
        why = "is it CSV? Then name it .csv"
    else:
        why = f"of the first one, {_REASONS[asked.first_flag]}"
    raise BadShard(f"{path}: no line is a JSON object: {why}")


def _names(path: str, keys: Keys, asked: _Columns) -> list[str]:
    """The keys, decoded, then those nested fields that were asked for and are there."""
    names = []
    for key in keys.names:
        try:
            names.append(json.loads(b'"%b"' % key))
        except ValueError:
            # It is not UTF-8, so no flag can name it.
            continue
    require_few_columns(path, len(keys.names))
    return list(dict.fromkeys([*names, *asked.seen]))
