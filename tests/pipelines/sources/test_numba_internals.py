"""Scanners count no references, which would take most of their time; each is compiled once. Bytes
are compared and copied a block at a time."""

import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from pipelines.sources import _csv_scan, _json_scan, numba_internals
from pipelines.sources.formats import FORMATS
from pipelines.sources.numba_internals import (
    BLOCK_BYTES,
    copy_block,
    lowest_bit,
    places_of,
)
from pipelines.sources.options import ReadOptions


def test_a_scanner_counts_no_references():
    options = dict(_csv_scan._scan_lines.targetoptions)
    assert options.pop("_nrt") is False
    # Code that was loaded from a cache cannot be looked at.
    fresh = njit(_nrt=False, nogil=True)(_csv_scan._find2.py_func)
    data = b"some text, and more" + bytes(BLOCK_BYTES)
    assert fresh(np.frombuffer(data, np.uint8), 0, ord(","), ord(";")) == 9
    (code,) = fresh.inspect_llvm().values()
    assert "NRT_incref" not in code


@njit
def find_and_copy(data, start, byte, target, target_start):
    copy_block(data, start, target, target_start)
    found = places_of(data, start, byte)
    return found, lowest_bit(found) if found else -1


def test_a_block_is_compared_and_copied_wherever_it_is():
    random = np.random.default_rng(0)
    for start in (0, 1, 37):
        data = random.integers(0, 6, BLOCK_BYTES + start).astype(np.uint8)
        data[data == 5] = 255
        for byte in (0, 4, 5, 255):
            target = np.full(BLOCK_BYTES + 9, 77, np.uint8)
            found, lowest = find_and_copy(data, start, byte, target, 3)
            places = np.flatnonzero(data[start:] == byte).tolist()
            assert [i for i in range(BLOCK_BYTES) if int(found) >> i & 1] == places
            assert lowest == (places[0] if places else -1)
            assert target.tolist() == [77] * 3 + data[start:].tolist() + [77] * 6


def test_what_is_cached_depends_on_the_source_of_the_intrinsics():
    """Numba's cache does not see changes of another file."""
    checksum = zlib.crc32(Path(numba_internals.__file__).read_bytes())
    compiled = [value for value in vars(_csv_scan).values() if hasattr(value, "py_func")]
    cached = {function.__name__: function for function in compiled if function.stats.cache_path}
    assert {"_scan", "_scan_lines", "_gather"} <= cached.keys()
    for name, function in cached.items():
        assert checksum in function._cache._cache_file._source_stamp, name


def test_a_scanner_is_compiled_once():
    for name, column in (("csv", b"text\n%b\n"), ("json", b'{"text":"%b"}')):
        for length in (0, 1, 7, 8, 9, 100):
            source = pa.BufferReader(column % (b"x" * length))
            list(FORMATS[name].rows(source, name, ["text"], ReadOptions(), None, ()))
    for function in (_csv_scan._scan, _csv_scan._gather, _json_scan._scan, _json_scan._gather):
        assert len(function.signatures) == 1
