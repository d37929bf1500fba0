"""Scanners count no references, which would take most of their time; each is compiled once."""

import numpy as np
import pyarrow as pa
from numba import njit

from pipelines.sources import _csv_scan, _json_scan
from pipelines.sources.formats import FORMATS
from pipelines.sources.options import ReadOptions


def test_a_scanner_counts_no_references():
    options = dict(_csv_scan._find2.targetoptions)
    assert options.pop("_nrt") is False
    # Code that was loaded from a cache cannot be looked at.
    fresh = njit(_nrt=False, nogil=True)(_csv_scan._find2.py_func)
    data = b"some text, and more"
    assert fresh(np.frombuffer(data, np.uint8), _csv_scan._words(data), 0, ord(","), ord(";")) == 9
    (code,) = fresh.inspect_llvm().values()
    assert "NRT_incref" not in code


def test_a_scanner_is_compiled_once():
    for name, column in (("csv", b"text\n%b\n"), ("json", b'{"text":"%b"}')):
        for length in (0, 1, 7, 8, 9, 100):
            source = pa.BufferReader(column % (b"x" * length))
            list(FORMATS[name].rows(source, name, ["text"], ReadOptions(), None, ()))
    for function in (_csv_scan._scan, _csv_scan._gather, _json_scan._scan, _json_scan._gather):
        assert len(function.signatures) == 1
