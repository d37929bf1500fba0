"""The one error a user can mend: what was given cannot be used."""

UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What taking apart a file that nobody vouches for, such as JSON, may raise."""


class InputError(ValueError):
    """A file, flag, row or checkpoint cannot be used as given.

    The message is one line that names the thing, what is wrong with it and what would do. The
    programs print it without a traceback and exit with code 2.
    """


def on_one_line(said: object) -> str:
    """A text, or what an error says, without its line breaks and runs of blanks."""
    return " ".join(str(said).split())
