"""Arrow types as shards are read: storage types for extension types, no dictionaries, no views."""

import pyarrow as pa

_TEXT_CHECKS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,
)
_VIEWS = {"string_view": pa.string(), "binary_view": pa.binary()}


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold texts: string, binary, or all null."""
    return any(check(kind) for check in _TEXT_CHECKS)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata and with plain types only (`plain_type`)."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type as it is read: extension types become their storage type, dictionary and view types
    the type of their values; the same inside nested types.

    A file can name any type that a library registers with Arrow. The values of one of Ray Data's
    are pickles, so to look at one would run its code; their storage type is bytes. A dictionary or
    a view can repeat one long value in every row, so values are unpacked while memory is limited.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if str(kind) in _VIEWS:
        return _VIEWS[str(kind)]
    fields = [kind.field(i) for i in range(kind.num_fields)]
    plain = [field.with_type(plain_type(field.type)) for field in fields]
    if plain == fields:
        return kind
    if pa.types.is_struct(kind):
        return pa.struct(plain)
    if pa.types.is_map(kind):
        return pa.map_(*plain[0].type.fields)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain[0], kind.list_size)
    return pa.large_list(plain[0]) if pa.types.is_large_list(kind) else pa.list_(plain[0])
