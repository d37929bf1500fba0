"""Cast a column to another type, row by row where rows do not convert. No value changes."""

import re
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from sentiment.errors import InputError, on_one_line

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,4})?")
"""A number as programs write it: 7, -1.50 and 1e-05, but neither 007 nor +7."""

MAX_SHOWN_CHARACTERS = 100


def cast_column(column: pa.ChunkedArray, to: pa.Field) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """The column as type `to.type`, and the reason for each row that does not convert, by index.

    A row converts if its value stays the same: cast back, it is what it was. A text is a number if
    it is written as one, and an empty field of CSV, whose columns are binary, is null where no text
    is wanted. Rows that do not convert are null.

    Text is checked even if the type stays the same: writers of Parquet do not check it, and pandas
    cannot open a file with invalid UTF-8. Raises InputError if the types do not convert at all.
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
        cast = [_cast(chunk, to.type) for chunk in rows.chunks]
        for chunk in cast:
            chunk.validate(full=True)
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
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InputError(f"column {to.name!r} does not convert: {error}") from error
    return cast


def _cast(rows: pa.Array, to: pa.DataType) -> pa.Array:
    """The rows as another type. Raises ArrowInvalid if a value would change."""
    if rows.type == to:
        return rows
    if pat.is_binary(rows.type) and not (_is_text(to) or _is_binary(to)):
        rows = rows.cast(pa.string())
        rows = pc.if_else(pc.equal(rows, ""), pa.scalar(None, pa.string()), rows)
    cast = _arrow_cast(rows, to)
    _require_same(rows, cast)
    return cast


def _arrow_cast(rows: pa.Array, to: pa.DataType) -> pa.Array:
    """Arrow's cast, which refuses some whole numbers for what others of their type would be."""
    if pat.is_integer(rows.type) and pat.is_decimal(to):
        return rows.cast(pa.decimal256(76, to.scale)).cast(to)
    # Many numbers beyond 2^53 are floats.
    return rows.cast(to, safe=not (pat.is_integer(rows.type) and pat.is_floating(to)))


def _require_same(before: pa.Array, after: pa.Array) -> None:
    """Raise ArrowInvalid if a value of one array is another in the other."""
    given, to = before.type, after.type
    if given == to or pat.is_null(given) or isinstance(given, pa.BaseExtensionType):
        return
    if pat.is_struct(given):
        for field in given:
            _require_same(*(pc.struct_field(array, field.name) for array in (before, after)))
    elif pat.is_map(given):
        for kind in ("keys", "items"):
            _require_same(getattr(before, kind), getattr(after, kind))
    elif pat.is_nested(given):
        _require_same(before.flatten(), after.flatten())
    elif not (_is_text(to) or (_is_text(given) and pat.is_temporal(to))):
        # Whatever is written is the same, and the same time is written in several ways.
        changed = before.filter(pc.invert(_are_same(before, after)))
        if len(changed):
            raise pa.ArrowInvalid(f"{str(changed[0])[:MAX_SHOWN_CHARACTERS]} would change")


def _are_same(before: pa.Array, after: pa.Array) -> pa.Array:
    """bool[n], null for nulls: whether values, which are not nested, are the same if cast back."""
    given, to = before.type, after.type
    back = _arrow_cast(after, given)
    if pat.is_float16(given):  # Which Arrow does not compare.
        before, back = before.cast(pa.float32()), back.cast(pa.float32())
    same = pc.equal(before, back)
    if pat.is_floating(given):
        return pc.or_(same, pc.and_(pc.is_nan(before), pc.is_nan(back)))
    if _is_text(given) and pat.is_boolean(to):
        return pc.equal(pc.utf8_lower(before), back)
    if _is_text(given) and (pat.is_floating(to) or pat.is_decimal(to)):
        pairs = zip(before.to_pylist(), back.to_pylist(), strict=True)
        numbers = [None if a is None else _is_same_number(a, b) for a, b in pairs]
        return pa.array(numbers, pa.bool_())
    return same


def _is_same_number(text: str, written: str) -> bool:
    return text == written or (
        NUMBER.fullmatch(text) is not None and Decimal(text) == Decimal(written)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pat.is_string(kind) or pat.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_fixed_size_binary(kind))
