"""Parquet files with a checksum of the whole file: plans, parts, manifests."""

import hashlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

SHA256 = b"sentiment.sha256"
"""Key of a file's checksum in its Parquet footer."""

_NO_DIGEST = b"0" * 64


def parquet_content(table: pa.Table, metadata: Mapping[bytes, str] | None = None) -> pa.Buffer:
    """The table as a Parquet file with metadata. Its pages have checksums, and so has the file."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**(metadata or {}), SHA256: _NO_DIGEST.decode()})
    content = sink.getvalue().to_pybytes()
    # The checksum is that of the file in which its own digits are zeros.
    start = content.rindex(_NO_DIGEST)
    digest = hashlib.sha256(content).hexdigest().encode()
    return pa.py_buffer(b"".join([content[:start], digest, content[start + len(digest) :]]))


def read_parquet(content: bytes) -> pq.ParquetFile:
    """A Parquet file that `parquet_content` made.

    Raises ValueError, TypeError, KeyError, OSError or an Arrow error if it is not as it was made.
    """
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    digest = (file.metadata.metadata or {})[SHA256]
    start = content.rfind(digest)
    sealed = b"".join([content[:start], _NO_DIGEST, content[start + len(digest) :]])
    if hashlib.sha256(sealed).hexdigest().encode() != digest:
        raise ValueError("its checksum is wrong")
    return file
