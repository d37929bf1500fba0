"""Cast a column to another type, row by row where rows do not convert."""

import pyarrow as pa

from sentiment.errors import InputError, on_one_line


def cast_column(column: pa.ChunkedArray, to: pa.Field) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """The column as type `to.type`, and the reason for each row that does not convert, by index.

    Rows that do not convert are null. Text is checked even if the type stays the same: writers of
    Parquet do not check it, and pandas cannot open a file with invalid UTF-8. Raises InputError if
    the types do not convert at all.
    """
    invalid: dict[int, str] = {}
    chunks = _cast_rows(column, 0, len(column), to, invalid)
    return pa.chunked_array(chunks, to.type), invalid


def _cast_rows(
    column: pa.ChunkedArray, first: int, last: int, to: pa.Field, invalid: dict[int, str]
) -> list[pa.Array]:
    """Cast the rows from `first` up to `last`: if that fails, each half of them on its own.

    Adds the reasons for rows that do not convert to `invalid`.
    """
    rows = column
    if last - first < len(column):
        # Copied, since Arrow validates a slice of lists with the values around it.
        rows = column.take(pa.array(range(first, last), pa.int64()))
    try:
        cast = rows.cast(to.type)
        cast.validate(full=True)
    except pa.ArrowInvalid as error:
        if last - first > 1:
            middle = (first + last) // 2
            return [
                *_cast_rows(column, first, middle, to, invalid),
                *_cast_rows(column, middle, last, to, invalid),
            ]
        problem = "is not valid UTF-8"
        if "UTF8" not in str(error):
            problem = f"does not convert from {column.type} to {to.type}: {on_one_line(error)}"
        invalid[first] = f"column {to.name!r} {problem}"
        return [pa.nulls(1, to.type)]
    except pa.ArrowNotImplementedError as error:
        raise InputError(f"column {to.name!r} does not convert: {error}") from error
    chunks: list[pa.Array] = cast.chunks
    return chunks
