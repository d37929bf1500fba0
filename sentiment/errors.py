"""The one error a user can mend: what was given cannot be used."""


class InputError(ValueError):
    """A file, flag, row or checkpoint cannot be used as given.

    The message is one line that names the thing, what is wrong with it and what would do. The
    programs print it without a traceback and exit with code 2.
    """
