"""Keeps a library from loading another one, of which nothing here calls anything."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Context manager: those of these modules that are not loaded yet seem not to be installed.

    Afterwards they can be loaded as ever.
    """
    new = [name for name in names if name not in sys.modules]
    # Python takes None for: there is no such module.
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]
