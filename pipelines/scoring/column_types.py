"""The common type of a column that has different types in different shards."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from sentiment.errors import InputError


def common_type(name: str, types: Iterable[pa.DataType]) -> pa.DataType:
    """The narrowest type that holds the values of all types of a column; text if no other does.

    Whole numbers must stay exact, and timestamps must reach from year 1 to 9999. Raises InputError,
    which names the column, if no type holds them.
    """
    types = list(dict.fromkeys(types)) or [pa.null()]
    if len(types) == 1:
        return types[0]
    try:
        schemas = [pa.schema([(name, given)]) for given in types]
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        common = pa.string()
    for candidate in (common, pa.string()):
        if all(_holds(candidate, given) for given in types):
            return candidate
    raise InputError(
        f"column {name!r} is {' and '.join(map(str, types))} in different shards, which no type "
        "holds: choose the columns to keep without it, by --keep_columns"
    )


def _holds(common: pa.DataType, given: pa.DataType) -> bool:
    """Whether a type holds every value of another: whole numbers exactly, years 1 to 9999."""
    extremes: list[Any] = []
    if pa.types.is_decimal(given) and pa.types.is_floating(common):
        return False
    if pa.types.is_nested(given) and given != common:
        if common.num_fields != given.num_fields:
            return False
        fields = range(given.num_fields)
        if not all(_holds(common.field(i).type, given.field(i).type) for i in fields):
            return False
    if pa.types.is_integer(given):
        limits = np.iinfo(given.to_pandas_dtype())
        extremes = [limits.min, limits.max]
    elif pa.types.is_timestamp(given) and given != common and given.unit != "ns":
        extremes = [datetime.min, datetime.max.replace(microsecond=0)]
    try:
        pa.array(extremes, given).cast(common)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True
