"""Tables as bytes in Arrow IPC streams: how a row of a Ray dataset carries a table."""

import pyarrow as pa


def to_buffer(table: pa.Table) -> pa.Buffer:
    """The table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def to_bytes(table: pa.Table) -> bytes:
    """The table as an Arrow IPC stream."""
    content: bytes = to_buffer(table).to_pybytes()
    return content


def from_bytes(content: bytes | pa.Buffer) -> pa.Table:
    """The table of an Arrow IPC stream, sharing its memory."""
    return pa.ipc.open_stream(content).read_all()
