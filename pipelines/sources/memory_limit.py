"""A limit on the memory that a read may take, by RLIMIT_DATA (Linux)."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import BadShard

MAX_READ_BYTES = 960 * 2**20
"""Memory that one read of Parquet may take. A page of a kilobyte can unpack to more than the
machine has.

It is less than a GiB, because Arrow's allocator, mimalloc, reserves a GiB at a time. A limit that
this fits into is reached by a read of any size; where it does not fit, mimalloc takes what it
needs."""

_STATM = "/proc/self/statm"
_DATA_PAGES = 5
"""Field of `_STATM` that RLIMIT_DATA limits: pages of data and stack."""

_limit_lock = threading.Lock()


@contextmanager
def limited_memory(path: str) -> Iterator[None]:
    """Context manager: BadShard about `path` if the block takes more than MAX_READ_BYTES.

    Only the decoder knows what a page unpacks to, and it allocates before it checks. So the limit
    is the process's RLIMIT_DATA, set to what the process has now plus MAX_READ_BYTES. The block
    also gets an error if another thread takes the memory.

    There is no limit on systems other than Linux. Where the user's own limit (`ulimit -d`) is
    tighter, it stays, and the block raises MemoryError: the file is not to blame.
    """
    if not os.path.exists(_STATM):
        yield
        return
    # The limit belongs to the process: two threads that change it at once would leave it changed.
    with _limit_lock:
        with open(_STATM) as file:
            used_bytes = int(file.read().split()[_DATA_PAGES]) * os.sysconf("SC_PAGE_SIZE")
        bound = used_bytes + MAX_READ_BYTES
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        is_tighter = soft == resource.RLIM_INFINITY or bound < soft
        if is_tighter:
            resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
        try:
            yield
        except MemoryError:
            if not is_tighter:
                raise
            mib = MAX_READ_BYTES >> 20
            raise BadShard(f"{path} takes more than {mib} MiB of memory to read") from None
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
