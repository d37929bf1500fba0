"""InputError: the user's input cannot be used."""

UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""Errors that parsing an untrusted file, such as JSON, may raise."""


class InputError(ValueError):
    """A file, flag, row or checkpoint cannot be used.

    The message is one line: what cannot be used, what is wrong with it, and the remedy. The
    programs print it without a traceback and exit with code 2.
    """


def on_one_line(message: object) -> str:
    """A message, or that of an error, with each run of blanks and line breaks as one blank."""
    return " ".join(str(message).split())
