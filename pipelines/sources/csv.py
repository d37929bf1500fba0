"""CSV reader: row batches of a span, row counts and marks; malformed rows are kept apart.

A scan of our own (`_csv_scan`) finds rows and fields, and copies the values of the columns that are
read, all as binary. Quoting follows RFC 4180: a field that begins with a quote ends at the next
quote that is not doubled, and may hold delimiters and line breaks. Then comes a delimiter or the
end of the row; otherwise the row is malformed. Lines end in LF, CRLF or CR. Blank lines are not
rows.

What the flags leave open, the beginning of a file tells (`_Table`). All readers of a file see it,
so they agree.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from pipelines.errors import BadShard
from pipelines.sources._csv_scan import (
    AFTER_QUOTE,
    BACKSLASH_QUOTE,
    BLANK_QUOTE,
    NONE,
    UNCLOSED,
    gather,
    split_rows,
)
from pipelines.sources.blocks import Block, Located, blocks, count, cut_to
from pipelines.sources.counted import Counted
from pipelines.sources.decoding import TextFile
from pipelines.sources.detected import with_detected
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import (
    MAX_ROW_BYTES,
    Rows,
    Span,
    choose_columns,
    require_few_columns,
    text_schema,
)

ROWS_LOOKED_AT = 100
"""Rows at the beginning of a file without a header that tell whether `--columns` fits."""

LONGER_BYTES = 4096
"""Bytes after a row that are looked at where it may end later than it seems."""

MIN_SHARE_OF_BLANKS = 0.5
"""If more rows than this have a quote after a blank, it was meant as a quote."""

_BACKSLASH = ord("\\")
_COMMA, _TAB = ord(","), ord("\t")
_DELIMITERS = b",;\t|"
"""What a header may be separated by where no flag says it."""

_SEPARATOR_LINE = re.compile(rb'"?sep=([^"\r\n])"?')
"""What Excel reads as the delimiter, if it is the first line."""

_NO_SLOTS = np.zeros(0, np.int32)


def read_csv(
    source: pa.NativeFile,
    path: str,
    columns: Sequence[str] | None,
    options: ReadOptions,
    span: Span | None = None,
    optional: Sequence[str] = (),
    delimiter: int = _COMMA,
) -> Iterator[Rows]:
    """The rows of a decompressed CSV file; the arguments are those of `Shard.rows`.

    Whether values are UTF-8 is not checked here, so that one invalid row does not cost the others.
    `delimiter`: what separates fields, unless the options or the file say something else.
    """
    table = _Table(source, path, options, delimiter)
    chosen = choose_columns(path, table.present, columns, optional)
    located = table.blocks(chosen, span)
    for block, rows_before in cut_to(located, span, path):
        yield table.parse(block, chosen, rows_before)


def csv_schema(
    source: pa.NativeFile, path: str, options: ReadOptions, delimiter: int = _COMMA
) -> pa.Schema:
    """The columns of a CSV file; only its beginning is read."""
    table = _Table(source, path, options, delimiter)
    return with_detected(text_schema(table.present), table.detected)


def count_csv(
    source: pa.NativeFile, path: str, options: ReadOptions, delimiter: int = _COMMA
) -> Counted:
    """Row count (malformed rows included), columns and marks of a CSV file."""
    table = _Table(source, path, options, delimiter)
    rows, marks = count(table.checked(table.blocks([], None)))
    schema = with_detected(text_schema(table.present), table.detected)
    return Counted(rows, schema, tuple(marks) if table.is_utf8 else ())


@dataclass(frozen=True)
class _Dialect:
    """What separates, quotes and escapes: bytes, or NONE."""

    delimiter: int
    quote: int
    escape: int
    skips_blanks: bool = False
    """Whether blanks before a field do not belong to it."""

    def split(
        self, data: bytes, begin: int, last: bool, slots: np.ndarray, most: int | None = None
    ) -> Block:
        """Whole rows of `data`; the arguments are those of `split_rows`."""
        dialect = (self.delimiter, self.quote, self.escape, self.skips_blanks)
        limit = {} if most is None else {"most": most}
        return Block(data, *split_rows(data, begin, last, dialect, slots, **limit))


class _Table:
    """A CSV file whose beginning has been read: its dialect and its columns."""

    def __init__(
        self, source: pa.NativeFile, path: str, options: ReadOptions, delimiter: int
    ) -> None:
        self._path, self._options = path, options
        self._text = TextFile(source, path, options.encoding)
        self._chunks = self._text.chunks()
        self._pending, self._is_last = b"", False
        given = options.delimiter_byte
        self._dialect = _Dialect(
            delimiter if given is None else given,
            NONE if options.quote_byte is None else options.quote_byte,
            NONE if options.escape_byte is None else options.escape_byte,
        )
        usual = self._dialect.delimiter
        self._detected: list[str] = []
        self._rows = self._rows_of_blanks = 0
        begin = 0
        line, begin = self._line(begin)
        if given is None and (match := _SEPARATOR_LINE.fullmatch(line)):
            self._dialect = replace(self._dialect, delimiter=match[1][0])
            line, begin = self._line(begin)
        elif given is None and line:
            self._dialect = self._with_delimiter_of(line)
        if self._dialect.delimiter != usual:
            name = "tab" if self._dialect.delimiter == _TAB else f"'{chr(self._dialect.delimiter)}'"
            self._detected.append(f"Read with {name} between columns, as the first line has it")
        names = self._names(line) if line else []
        if not options.columns and len(names) > 1 and all(name[:1] == " " for name in names[1:]):
            self._dialect = replace(self._dialect, skips_blanks=True)
            self._detected.append(
                "Read without the blanks after delimiters, as the header has them"
            )
            line, begin = self._line(begin - len(line))
            names = self._names(line)
        if options.columns:
            begin -= len(line)
            self._require_fit(begin, names)
            names = list(options.columns)
        self._names_in_order = names
        self.present = [name for name in names if name or names.count("") == 1]
        """The columns that can be read: several without a name cannot be told apart."""
        self._begin = begin

    @property
    def detected(self) -> list[str]:
        """What the file told of its dialect and encoding, as far as it has been read."""
        lines = [*self._detected, *self._text.detected]
        if self._rows_of_blanks > MIN_SHARE_OF_BLANKS * self._rows:
            lines.append(
                "Read with quotes after blanks as part of the texts, since the header has no blanks"
            )
        return lines

    @property
    def is_utf8(self) -> bool:
        """Whether offsets are those of the decompressed file."""
        return self._text.is_utf8

    def blocks(self, chosen: Sequence[str], span: Span | None) -> Iterator[Located]:
        """The rows of the file, or those from the span's mark on, with values of these columns."""
        slots = np.full(len(self._names_in_order), -1, np.int32)
        for column, name in enumerate(chosen):
            slots[self._names_in_order.index(name)] = column

        scan = partial(self._dialect.split, slots=slots)
        if span is not None and span.mark_byte:
            chunks = self._text.chunks_from(span.mark_byte)
            return blocks(chunks, scan, self._path, span.mark_byte, span.mark_row)
        pending = self._pending[self._begin :]
        position = self._text.start + self._begin
        left = iter([(b"", True)]) if self._is_last else self._chunks
        return blocks(left, scan, self._path, position, pending=pending)

    def checked(self, located: Iterator[Located]) -> Iterator[Located]:
        """The same blocks, which are looked at for `detected`; raises BadShard for a row that can
        be read in two ways."""
        for one in located:
            self._require_one_meaning(one.block, one.rows_before)
            self._rows += len(one.block)
            self._rows_of_blanks += int(np.count_nonzero(one.block.flags & BLANK_QUOTE))
            yield one

    def parse(self, block: Block, chosen: Sequence[str], rows_before: int) -> Rows:
        """The well-formed rows of a block as a table of the chosen columns, and the others."""
        self._require_one_meaning(block, rows_before)
        is_good = self._is_good(block)
        numbers = np.arange(rows_before + 1, rows_before + 1 + len(block))
        arrays = []
        for spans in block.spans:
            offsets, values = gather(
                block.data, spans, is_good, self._dialect.quote, self._dialect.escape
            )
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
            arrays.append(pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, buffers))
        bad = [
            block.bad_row(i, int(numbers[i]), self._reason(block, i))
            for i in np.flatnonzero(~is_good).tolist()
        ]
        return Rows(pa.table(arrays, list(chosen)), numbers[is_good], bad)

    def _is_good(self, block: Block) -> np.ndarray:
        """bool[rows]: whether each row is well-formed."""
        is_good: np.ndarray = (block.fields == len(self._names_in_order)) & (
            block.flags & (UNCLOSED | AFTER_QUOTE) == 0
        )
        return is_good

    def _reason(self, block: Block, row: int) -> str:
        """Why a row is malformed."""
        if block.flags[row] & UNCLOSED:
            return "a quote is not closed"
        if block.flags[row] & AFTER_QUOTE:
            return "there is text after a closing quote"
        fields, width = int(block.fields[row]), len(self._names_in_order)
        named = "--columns names" if self._options.columns else "the header has"
        reason = f"{fields} field{'' if fields == 1 else 's'} where {named} {width}"
        if block.flags[row] & BLANK_QUOTE:
            reason += "; a quote after a blank is part of the text"
        return reason

    def _require_one_meaning(self, block: Block, rows_before: int) -> None:
        """Raise BadShard for a row that has another meaning if a backslash escapes quotes.

        Spark writes so by default. What doubled quotes make of such a row may have swallowed the
        rows after it.
        """
        if self._options.escape is not None or not block.flags.any():
            return
        is_good = self._is_good(block)
        escaped = replace(self._dialect, escape=_BACKSLASH)
        for row in np.flatnonzero(block.flags & BACKSLASH_QUOTE).tolist():
            raw = block.raw(row)
            # The row may also be the beginning of a longer one.
            start, stop = int(block.starts[row]), int(block.ends[row]) + LONGER_BYTES
            first = escaped.split(block.data[start:stop], 0, True, _NO_SLOTS, most=1)
            is_line = is_good[row] and b"\n" not in raw and b"\r" not in raw
            if self._is_good(first)[0] and not (is_line and first.ends[0] == len(raw)):
                raise BadShard(
                    f"{self._path}, row {rows_before + row + 1} has a quote after a backslash, and "
                    "can be read in two ways: pass --escape '\\' if the backslash makes the quote "
                    "a part of the text, as Spark writes it, or --escape none if it does not"
                )

    def _line(self, begin: int) -> tuple[bytes, int]:
        """The next row from a byte of what is pending on, and where it ends there."""
        while True:
            block = self._dialect.split(self._pending, begin, self._is_last, _NO_SLOTS, most=1)
            if len(block):
                return block.raw(0), int(block.ends[0])
            if self._is_last and self._options.columns:
                return b"", len(self._pending)
            if self._is_last:
                raise BadShard(
                    f"{self._path} is empty: a CSV file begins with a line that names its columns"
                )
            if len(self._pending) > MAX_ROW_BYTES:
                raise BadShard(
                    f"{self._path}: its first line is longer than {MAX_ROW_BYTES >> 20} MiB; "
                    "is there a quote that is not closed?"
                )
            chunk, self._is_last = next(self._chunks)
            self._pending += chunk

    def _with_delimiter_of(self, line: bytes) -> _Dialect:
        """The dialect with another delimiter, if the first line is one field with the usual one."""

        def fields(delimiter: int) -> int:
            other = replace(self._dialect, delimiter=delimiter)
            block = other.split(line, 0, True, _NO_SLOTS, most=1)
            return 0 if block.flags[0] & (UNCLOSED | AFTER_QUOTE) else int(block.fields[0])

        if fields(self._dialect.delimiter) > 1 or self._dialect.quote in _DELIMITERS:
            return self._dialect
        best = max(_DELIMITERS, key=fields)
        wanted = len(self._options.columns)
        if fields(best) > 1 and (not wanted or fields(best) == wanted):
            return replace(self._dialect, delimiter=best)
        return self._dialect

    def _names(self, line: bytes) -> list[str]:
        """The values of a line, which may be the names of the columns."""
        width = int(self._dialect.split(line, 0, True, _NO_SLOTS, most=1).fields[0])
        require_few_columns(self._path, width)
        block = self._dialect.split(line, 0, True, np.arange(width, dtype=np.int32), most=1)
        if self._options.columns:
            if block.flags[0] & UNCLOSED:
                return []
        elif block.flags[0] & UNCLOSED:
            raise BadShard(f"{self._path}: a quote in its first line is not closed")
        one = np.ones(1, bool)
        names = []
        for spans in block.spans:
            _, value = gather(block.data, spans, one, self._dialect.quote, self._dialect.escape)
            names.append(value.tobytes())
        if self._options.columns:
            return [name.decode(errors="replace") for name in names]
        try:
            decoded = [name.decode() for name in names]
        except UnicodeDecodeError:
            raise BadShard(
                f"{self._path}: its first line is not {self._text.encoding.upper()}: "
                "pass --encoding (latin-1, utf-16, ...)"
            ) from None
        if any("\0" in name for name in decoded):
            raise BadShard(
                f"{self._path} is not UTF-8 text (it has NUL bytes): "
                "pass --encoding utf-16-le or utf-16-be"
            )
        return decoded

    def _require_fit(self, begin: int, first: list[str]) -> None:
        """Raise BadShard if `--columns` does not fit the rows at the beginning of the file."""
        columns = list(self._options.columns)
        if first == columns:
            raise BadShard(
                f"{self._path}: its first line has the names that --columns gives: "
                "such files need no --columns"
            )
        pairs = zip(first, columns, strict=False)
        same = [name for value, name in pairs if value.strip().casefold() == name.casefold()]
        # A single one may be a value.
        if len(same) > 1:
            raise BadShard(
                f"{self._path}: its first line names columns (such as {', '.join(same)}), and "
                "--columns would make it a row: leave --columns out, or remove that line"
            )
        block = self._dialect.split(
            self._pending, begin, self._is_last, _NO_SLOTS, most=ROWS_LOOKED_AT
        )
        if len(block) and not (block.fields == len(columns)).any():
            fields = int(block.fields[0])
            raise BadShard(
                f"{self._path}: --columns names {len(columns)} columns, and its first row has "
                f"{fields} field{'' if fields == 1 else 's'}"
            )
