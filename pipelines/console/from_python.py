"""Calls of the jobs from Python: a program's errors as exceptions, and nothing printed if asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from pipelines.console.command import foreseen
from pipelines.console.terminal import quietly
from sentiment.errors import InputError


@contextmanager
def called(config: Any, quiet: bool) -> Iterator[None]:
    """Context manager: another program calls a job.

    Raises InputError where the program would end with exit code 2, and Failure where with 1. What
    nobody foresaw, and KeyboardInterrupt, pass as they are.

    Args:
        config: the dataclass of the job's flags.
        quiet: print nothing.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        # Its letters would be taken for the values.
        if isinstance(value, str) and str(field.type).startswith("tuple"):
            raise InputError(f"{field.name} is {value!r}; give a tuple: ({value!r},)")
    try:
        with quietly(quiet, warnings=False):
            yield
    except Exception as error:
        known = foreseen(error)
        if known is None or known is error:
            raise
        raise known from error
