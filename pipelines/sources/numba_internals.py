"""The one private option of Numba that scanning uses: no reference counts.

Numba counts references to arrays each time a function is called with them. In a loop over the
tokens of a file, that takes three quarters of the time. Functions that make no array need no
counts. The option has no public name; `tests/pipelines/sources/test_numba_internals.py` fails if it
goes.
"""

from collections.abc import Callable
from typing import Any

from sentiment.numba_cache import cached_njit


def scanner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: compile a function that makes no array; it runs without the GIL."""
    compiled: Callable[..., Any] = cached_njit(nogil=True, _nrt=False)(function)
    return compiled
