"""Silence for native libraries: only Python writes to standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Context manager: file descriptor 2 is /dev/null; `sys.stderr` still reaches the terminal.

    Ray's core and TensorFlow write harmless messages there, and not all of them have a setting
    that turns them off.
    """
    python_stderr, native_stderr = sys.stderr, os.dup(2)
    python_stderr.flush()
    with open(os.devnull, "w") as nowhere, os.fdopen(os.dup(2), "w", buffering=1) as copy:
        os.dup2(nowhere.fileno(), 2)
        sys.stderr = copy
        try:
            yield
        finally:
            sys.stderr = python_stderr
            os.dup2(native_stderr, 2)
            os.close(native_stderr)
