"""One file of a corpus: open it, read its rows, count its rows, read its schema."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import BadShard
from pipelines.sources.counted import Counted as Counted
from pipelines.sources.decoding import has_half_pair
from pipelines.sources.format_files import MAGIC_BYTES, format_told_by
from pipelines.sources.formats import FORMATS, Format
from pipelines.sources.names import TEXT_OR_TABLE, file_name, format_told, partitions
from pipelines.sources.options import FORMAT_NAMES, ReadOptions
from pipelines.sources.rows import Rows, Span
from pipelines.sources.shard_file import Digest, fetched, opened


@dataclass(frozen=True)
class Shard:
    """A file of rows, with the size and time that it had when it was listed.

    Directories named `key=value` give it columns of strings, unless the file has a column of that
    name, or in JSON lines a row has that key.
    """

    path: str
    """A local path or URI."""
    size: int
    """Bytes."""
    modified: int
    """Time of the last change, in nanoseconds since 1970."""

    def rows(
        self,
        columns: Sequence[str] | None,
        options: ReadOptions,
        span: Span | None = None,
        optional: Sequence[str] = (),
        content: pa.Buffer | None = None,
    ) -> Iterator[Rows]:
        """Read rows, a batch at a time.

        Args:
            columns: the columns to read, in this order; None: all, in the shard's order.
            options: how the shard is read.
            span: the rows to read; None: all.
            optional: columns to read as well if the shard has them. Of JSON lines they are null
                where no row has them.
            content: what `fetch` returned; None: the file is read here.

        Raises BadShard if a parser cannot use the content, or it lacks a column; Unavailable if the
        file cannot be opened or read, whatever the reason.
        """
        form = self._format(options, content)
        values = partitions(self.path)
        if columns is None and not form.knows_columns:
            columns, optional = (), self.count(options).schema.names
        given = [name for name in columns or () if name not in values]
        wanted = None if columns is None else given
        named = [*(columns or ()), *optional]
        maybe = [name for name in dict.fromkeys(named) if name not in given]
        with opened(self.path, content) as source:
            for rows in form.rows(source, self.path, wanted, options, span, maybe):
                yield _with_values(rows, values, named if columns is not None else None)

    def count(self, options: ReadOptions) -> Counted:
        """Count the rows: without a footer, the file is read in full. Raises what `rows` raises."""
        form = self._format(options)
        if form.has_footer:
            counted = None
            if "://" in self.path and form.count_small is not None:
                # Of very many small shards in a bucket, requests are what takes the time.
                counted = form.count_small(self.path, self.size)
            if counted is None:
                with opened(self.path) as source:
                    counted = form.count(source, self.path, options)
            return replace(counted, schema=self._with_partitions(counted.schema))
        digest = Digest()
        with opened(self.path, digest=digest) as source:
            counted = form.count(source, self.path, options)
        if file_name(self.path).compression is not None:
            # Marks count bytes after decompression.
            counted = replace(counted, marks=())
        schema = self._with_partitions(counted.schema)
        return replace(counted, schema=schema, digest=digest.value())

    def schema(self, options: ReadOptions) -> pa.Schema:
        """Read the schema only. Raises what `rows` raises."""
        form = self._format(options)
        with opened(self.path) as source:
            return self._with_partitions(form.schema(source, self.path, options))

    @property
    def has_footer(self) -> bool:
        """Whether the shard's name says that a footer has its row count and groups of rows."""
        name = file_name(self.path).format
        return name is not None and FORMATS[name].has_footer

    def is_utf8(self, options: ReadOptions) -> bool:
        """Whether texts that are not UTF-8 are invalid, as far as name and options tell: the format
        or the options say UTF-8."""
        name = format_told(self.path, options.format) or options.format
        # Without either, the first bytes have to tell, and do so of no text.
        return options.is_utf8 or name is None or not FORMATS[name].is_text

    def not_valid(self, options: ReadOptions, value: bytes = b"") -> tuple[str, str]:
        """What is to be said of a value of invalid bytes, and why or what to do; "": no flag helps.

        `value`: the bytes, if what is said may follow from them.
        """
        if has_half_pair(value):
            return "is not valid UTF-8", "it has half of a surrogate pair, such as a cut emoji"
        if not self.is_utf8(options):
            return f"is not valid {options.encoding}", "pass --encoding (latin-1 takes any byte)"
        name = format_told(self.path, options.format) or options.format
        is_text = name is not None and FORMATS[name].is_text
        return "is not valid UTF-8", "pass --encoding (latin-1, cp1252, ...)" if is_text else ""

    def fetch(self, max_bytes: int) -> pa.Buffer | None:
        """The whole file, for `rows`; None if it has more than `max_bytes`. Raises Unavailable."""
        return fetched(self.path, max_bytes)

    def _format(self, options: ReadOptions, content: pa.Buffer | None = None) -> Format:
        """The format that the name tells, or else the first bytes, or else the options."""
        name, named = file_name(self.path), format_told(self.path, options.format)
        is_either = name.extension == TEXT_OR_TABLE and options.format is None
        if is_either and (options.delimiter or options.columns):
            flag = "--delimiter" if options.delimiter else "--columns"
            raise BadShard(
                f"{self.path}: by its name each line is a text, which {flag} is not for: "
                "pass --format csv, or --format text"
            )
        if named is not None:
            return FORMATS[named]
        with opened(self.path, content) as source:
            if name.compression is None and (told := format_told_by(source.read(MAGIC_BYTES))):
                return FORMATS[told]
        if options.format is None:
            raise BadShard(
                f"{self.path}: its name does not tell its format: "
                f"pass --format {', '.join(FORMAT_NAMES)}"
            )
        return FORMATS[options.format]

    def _with_partitions(self, schema: pa.Schema) -> pa.Schema:
        for name in partitions(self.path):
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.string()))
        return schema


def _with_values(rows: Rows, values: dict[str, str | None], wanted: Sequence[str] | None) -> Rows:
    """The rows with values that are the same in all of them, where the file has none of its own.

    `wanted`: the columns in order; None: all.
    """
    table = rows.table
    for name, value in values.items():
        if name in table.column_names:
            # Of JSON lines: a row may lack any key.
            if (
                table[name].null_count
                and value is not None
                and pa.types.is_binary(table[name].type)
            ):
                filled = pc.fill_null(table[name], value.encode())
                table = table.set_column(table.column_names.index(name), name, filled)
        elif wanted is None or name in wanted:
            column = pa.repeat(pa.scalar(value, pa.string()), len(rows.numbers))
            table = table.append_column(name, column)
    if table is rows.table:
        return rows
    if wanted is not None:
        table = table.select([name for name in dict.fromkeys(wanted) if name in table.column_names])
    return replace(rows, table=table)
