"""Arrow types as shards are read: no views, no dictionaries, of extension types UUIDs and JSON."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as pat

_TEXT_CHECKS = (
    pat.is_string,
    pat.is_large_string,
    pat.is_string_view,
    pat.is_binary,
    pat.is_large_binary,
    pat.is_binary_view,
    pat.is_null,
)
_VIEWS = {"string_view": pa.string(), "binary_view": pa.binary()}


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold texts: string, binary, or all null."""
    return any(check(kind) for check in _TEXT_CHECKS)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata and with plain types only (`plain_type`)."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type as it is read: dictionary and view types become the type of their values, extension
    types their storage type, except for UUIDs and JSON; the same inside nested types, whose fields
    may be null.

    A file can name any type that a library registers with Arrow. The values of one of Ray Data's
    are pickles, so to look at one would run its code; their storage type is bytes. UUIDs and JSON
    are types of Arrow itself and of Parquet. A dictionary or a view can repeat one long value in
    every row, so values are unpacked while memory is limited.
    """
    if isinstance(kind, pa.UuidType):
        return kind
    if isinstance(kind, pa.JsonType):
        return pa.json_(plain_type(kind.storage_type))
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pat.is_dictionary(kind):
        return plain_type(kind.value_type)
    if str(kind) in _VIEWS:
        return _VIEWS[str(kind)]
    return with_inner_types(kind, [plain_type(field.type) for field in inner_fields(kind)])


def has_list_view(kind: pa.DataType) -> bool:
    """Whether the type is, or holds, a view of lists, which Arrow casts to lists wrongly."""
    if pat.is_list_view(kind) or pat.is_large_list_view(kind):
        return True
    return any(has_list_view(field.type) for field in inner_fields(kind))


def inner_fields(kind: pa.DataType) -> list[pa.Field]:
    """The fields of a nested type: those of a struct, a list's values, a map's entries."""
    return [kind.field(i) for i in range(kind.num_fields)]


def with_inner_types(kind: pa.DataType, types: Sequence[pa.DataType]) -> pa.DataType:
    """A nested type with these types of its `inner_fields`, which may be null."""
    if not types:
        return kind
    inner = [
        pa.field(field.name, given) for field, given in zip(inner_fields(kind), types, strict=True)
    ]
    if pat.is_struct(kind):
        return pa.struct(inner)
    if pat.is_map(kind):
        key, value = inner[0].type
        return pa.map_(key.with_nullable(False), value)
    if pat.is_fixed_size_list(kind):
        return pa.list_(inner[0], kind.list_size)
    return pa.large_list(inner[0]) if pat.is_large_list(kind) else pa.list_(inner[0])
