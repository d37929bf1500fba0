"""Which columns of shards are kept, and as which types: one schema for all plans of an output."""

import difflib
import textwrap
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from pipelines.console.terminal import quantity
from pipelines.errors import BadShard
from pipelines.scoring.column_types import common_type, converts
from pipelines.scoring.config import OutputSettings, class_names
from pipelines.sources.parquet_columns import ENCRYPTED, unkept
from pipelines.sources.rows import choose_columns
from sentiment.answers import answer_schema
from sentiment.errors import InputError

SOURCE = pa.schema([("source_shard", pa.string()), ("source_row", pa.int64())])
"""Columns that the output adds with `--with_source`: the path of a row's shard, and the number of
the row from 1, as `_rejected/` has them."""

MAX_CASTS = 20
"""Columns with another type than in the shards that are named; the others are counted."""

MAX_NAMES_CHARACTERS = 1000


def kept_schema(schemas: Sequence[pa.Schema], settings: OutputSettings) -> pa.Schema:
    """The schema of the columns that an output keeps, given the schemas of its first shards.

    Each column has a type that holds every shard's values. Raises InputError if no type does, if no
    shard has a column that --keep_columns names, or if a column has a name that the output adds,
    or if it would add two columns of one name.
    """
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    names.pop(settings["text_column"], None)
    if settings["keep_columns"] is not None:
        for name in settings["keep_columns"]:
            if schemas and name not in names and name != settings["text_column"]:
                columns = [settings["text_column"], *names]
                near = difflib.get_close_matches(name, columns, 1)
                hint = f" did you mean {near[0]}?" if near else ""
                if set(name.split(",")) <= set(columns):
                    hint = f" did you mean {name.replace(',', ' ')} (separated by blanks)?"
                raise InputError(
                    f"--keep_columns {name}: no shard has that column;{hint} "
                    f"the columns: {', '.join(columns)}"
                )
        names = dict.fromkeys(settings["keep_columns"])
    added = [*answer_schema(class_names(settings)).names]
    added += SOURCE.names if settings.get("with_source") else []
    # Some readers of Parquet ignore case in names.
    taken = {name.lower(): "which the output adds" for name in added}
    for key in settings.get("partition_by", ()):
        if key.lower() in taken:
            raise InputError(
                f"--partition_by {key}: some readers would take it for the column or key of that "
                f"name, {taken[key.lower()]}: leave it out"
            )
        # Readers take its values from the names of directories.
        names.pop(key, None)
        taken[key.lower()] = f"which some readers take for the key {key} of --partition_by"
    for name in names:
        if name.lower() in taken:
            raise InputError(
                f"the input has a column {name!r}, {taken[name.lower()]}: "
                "choose the columns to keep without it, by --keep_columns"
            )
    fields = []
    for name in names:
        types = [schema.field(name).type for schema in schemas if name in schema.names]
        for problem in filter(None, map(unkept, types)):
            raise InputError(
                f"column {name!r} has the type {problem}, which cannot be written: "
                "choose the columns to keep without it, by --keep_columns"
            )
        fields.append(pa.field(name, common_type(name, types)))
    return pa.schema(fields)


def require_kept(
    path: str, given: pa.Schema, kept: pa.Schema | None, settings: OutputSettings
) -> None:
    """Raise BadShard if a shard has one of the kept columns twice, or as a type that never
    converts to that of the output.

    Args:
        path: the shard, for the message.
        given: its schema.
        kept: schema of the output's kept columns; None: it has none yet.
        settings: which columns are kept of a new output.
    """
    wanted = settings["keep_columns"]
    if wanted is not None:
        wanted = [name for name in wanted if name in given.names]
    elif kept is not None:
        wanted = [name for name in kept.names if name in given.names]
    choose_columns(path, given.names, wanted, ())
    for name in given.names if wanted is None else wanted:
        if unkept(given.field(name).type) == ENCRYPTED:
            raise BadShard(
                f"{path}: column {name!r} is encrypted: write it without encryption, or choose the "
                "columns to keep without it, by --keep_columns"
            )
    for field in kept or ():
        if field.name not in given.names:
            continue
        kind = given.field(field.name).type
        if not converts(kind, field.type):
            raise BadShard(
                f"{path}: column {field.name!r} is {unkept(kind) or kind}, which does not convert "
                f"to {field.type}, its type in the output: write it as that type, or begin another "
                "output"
            )


def column_notes(
    schemas: Sequence[pa.Schema],
    shards: Sequence[int],
    kept: pa.Schema,
    settings: OutputSettings,
    is_first: bool,
) -> tuple[str, ...]:
    """What a user should know of the columns, in lines: what is left out, missing or cast.

    Args:
        schemas: the schemas of the shards of a plan.
        shards: the number of shards of each.
        kept: schema of the output's kept columns.
        settings: whether all columns are wanted, or which.
        is_first: whether this is the output's first plan.
    """
    notes = []
    if settings["keep_columns"] is None:
        names = dict.fromkeys(name for schema in schemas for name in schema.names)
        elsewhere = (settings["text_column"], *settings.get("partition_by", ()), *kept.names)
        new = [name for name in names if name not in elsewhere]
        if new:
            columns = _shortened(new)
            notes.append(f"Not kept, since the output has no such column: {columns} (--overwrite)")
    missing = []
    for name in kept.names:
        without = [name not in schema.names for schema in schemas]
        if any(without):
            number = int(np.dot(without, shards))
            missing.append(f"{name} ({number:,} of {quantity(int(np.sum(shards)), 'shard')})")
    if missing:
        notes.append(f"Null in the rows of shards that lack it: {_shortened(missing)}")
    by_letters: dict[str, list[str]] = {}
    for name in kept.names:
        by_letters.setdefault(name.lower(), []).append(name)
    alike = [", ".join(names) for names in by_letters.values() if len(names) > 1]
    if alike:
        notes.append(
            f"Columns that differ only in case, and may be one: {_shortened(alike)}; DuckDB and "
            "Spark would take them for one"
        )
    casts = [note for field in kept if (note := _cast_note(field, schemas, is_first))]
    if len(casts) > MAX_CASTS:
        casts[MAX_CASTS:] = [f"{len(casts) - MAX_CASTS:,} more columns have another type"]
    return (*notes, *casts)


def _cast_note(field: pa.Field, schemas: Sequence[pa.Schema], is_first: bool) -> str:
    """That the output has a column as another type than the shards do; "": it has not."""
    types = list(
        dict.fromkeys(
            schema.field(field.name).type for schema in schemas if field.name in schema.names
        )
    )
    if is_first and types == [pa.null()]:
        return f"Column {field.name!r} is {field.type} in the output: the shards have only nulls"
    if all(_is_alike(kind, field.type) for kind in types):
        return ""
    given = " and ".join(map(str, types))
    return f"Column {field.name!r} is {field.type} in the output: it is {given} in the shards"


def _is_alike(given: pa.DataType, to: pa.DataType) -> bool:
    """Whether Parquet stores values of both types as the same, or there are none."""
    is_same = given == to or str(given).replace("large_", "") == str(to).replace("large_", "")
    return is_same or bool(pat.is_null(given))


def _shortened(names: Sequence[str]) -> str:
    return textwrap.shorten(", ".join(names), MAX_NAMES_CHARACTERS, placeholder=" ...")
