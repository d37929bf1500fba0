"""Types of kept columns: one that holds every shard's values, and which types convert to which."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from pipelines.sources.arrow_types import inner_fields, with_inner_types
from sentiment.errors import InputError

MAX_DECIMAL_DIGITS = 38
"""Digits of a decimal that DuckDB, Polars and Spark read."""

INTEGER_DIGITS = {1: 3, 2: 5, 4: 10, 8: 19}
"""Digits of the integers of so many bytes; unsigned ones of 8 bytes have one more."""


def common_type(name: str, types: Iterable[pa.DataType]) -> pa.DataType:
    """The narrowest type that holds the values of all types of a column; text if no other does.

    Whole numbers and decimals stay exact. Timestamps have the finest unit, so those outside the
    years 1677 to 2262 do not convert where one type has nanoseconds. Nulls are text: the values of
    a later shard fit then. Raises InputError, which names the column, if no type holds them.
    """
    types = list(dict.fromkeys(types)) or [pa.null()]
    for candidate in (_unified(types), pa.string()):
        if candidate is not None and all(_holds(candidate, given) for given in types):
            return without_null(candidate)
    remedy = "choose the columns to keep without it, by --keep_columns"
    families = {_family(each) for each in types}
    if "text" in families and "instant" in families:
        remedy += ", or score the shards first in which it is a time: text is cast to that later"
    raise InputError(
        f"column {name!r} is {' and '.join(map(str, types))} in different shards, which no type "
        f"holds: {remedy}"
    )


def without_null(kind: pa.DataType) -> pa.DataType:
    """The type with text where it has nulls only, also inside nested types."""
    if pat.is_null(kind):
        return pa.string()
    return with_inner_types(kind, [without_null(field.type) for field in inner_fields(kind)])


def converts(given: pa.DataType, to: pa.DataType) -> bool:
    """Whether values of a type can be those of another, unchanged.

    Which of them are is decided row by row (`pipelines.scoring.cast`).
    """
    if given == to or pat.is_null(given):
        return True
    if isinstance(given, pa.BaseExtensionType) or isinstance(to, pa.BaseExtensionType):
        is_stored_so = isinstance(given, pa.UuidType | pa.JsonType) and given.storage_type == to
        return bool(is_stored_so)
    if pat.is_nested(given) or pat.is_nested(to):
        return _nested_converts(given, to)
    family, wanted = _family(given), _family(to)
    if family == wanted:
        return family != ""
    # Whatever has a family is written as text, except for durations; Arrow reads no times back.
    return (wanted == "text" and family not in ("", "duration")) or (
        family == "text" and wanted in ("boolean", "number", "binary", "date", "instant")
    )


def _unified(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """The type that Arrow unifies types to, or None."""
    if any(map(pat.is_decimal, types)):
        types = [_as_decimal(kind) for kind in types]
    if all(pat.is_timestamp(kind) and kind.tz is not None for kind in types):
        # They are points in time, whatever the zone that they are shown in.
        zones = {kind.tz for kind in types}
        zone = zones.pop() if len(zones) == 1 else "UTC"
        types = [pa.timestamp(kind.unit, zone) for kind in types]
    if any(map(pat.is_timestamp, types)):
        types = [pa.timestamp("s") if pat.is_date(kind) else kind for kind in types]
    try:
        schemas = [pa.schema([("", given)]) for given in types]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def _as_decimal(kind: pa.DataType) -> pa.DataType:
    """An integer type as the decimal type that holds it; any other as it is."""
    if not pat.is_integer(kind):
        return kind
    size = kind.bit_width // 8
    return pa.decimal128(INTEGER_DIGITS[size] + (kind == pa.uint64()), 0)


def _holds(common: pa.DataType, given: pa.DataType) -> bool:
    """Whether a type holds every value of another, except for timestamps beyond nanoseconds."""
    if given == common or pat.is_null(given):
        return True
    if not converts(given, common):
        return False
    if pat.is_nested(given):
        if pat.is_struct(given):
            return all(
                _holds(common.field(field.name).type, field.type) for field in inner_fields(given)
            )
        pairs = zip(inner_fields(common), inner_fields(given), strict=True)
        return all(_holds(to.type, of.type) for to, of in pairs)
    if pat.is_decimal(common):
        return not pat.is_floating(given) and common.precision <= MAX_DECIMAL_DIGITS
    if pat.is_decimal(given) and pat.is_floating(common):
        return False
    extremes: list[Any] = []
    if pat.is_integer(given):
        limits = np.iinfo(given.to_pandas_dtype())
        extremes = [limits.min, limits.max]
    elif pat.is_timestamp(given) and getattr(common, "unit", "") != "ns":
        extremes = [datetime.min, datetime.max.replace(microsecond=0)]
    try:
        pa.array(extremes, given).cast(common)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _nested_converts(given: pa.DataType, to: pa.DataType) -> bool:
    if pat.is_struct(given) and pat.is_struct(to):
        names, known = [[field.name for field in inner_fields(kind)] for kind in (given, to)]
        return (
            len({*names}) == len(names)
            and len({*known}) == len(known)
            and {*names} <= {*known}
            and all(converts(field.type, to.field(field.name).type) for field in given)
        )
    is_map = pat.is_map(given), pat.is_map(to)
    if any(is_map):
        return all(is_map) and all(
            converts(*pair)
            for pair in ((given.key_type, to.key_type), (given.item_type, to.item_type))
        )
    are_fixed = pat.is_fixed_size_list(given) and pat.is_fixed_size_list(to)
    if are_fixed and given.list_size != to.list_size:
        return False
    is_list = not pat.is_struct(given) and not pat.is_struct(to)
    both = pat.is_nested(given) and pat.is_nested(to)
    return is_list and both and converts(given.value_type, to.value_type)


def _family(kind: pa.DataType) -> str:
    """Types of a family convert to each other; "": only to themselves."""
    for family, checks in _FAMILIES.items():
        if any(check(kind) for check in checks):
            # Points in time are no local times, and neither says which the other would be.
            return "instant" if pat.is_timestamp(kind) and kind.tz is not None else family
    return ""


_FAMILIES = {
    "boolean": (pat.is_boolean,),
    "number": (pat.is_integer, pat.is_floating, pat.is_decimal),
    "text": (pat.is_string, pat.is_large_string),
    "binary": (pat.is_binary, pat.is_large_binary, pat.is_fixed_size_binary),
    "date": (pat.is_date, pat.is_timestamp),
    "time": (pat.is_time,),
    "duration": (pat.is_duration,),
}
