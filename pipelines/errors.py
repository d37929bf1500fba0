"""The error of work that could not be finished; `sentiment.errors` has the user's mistakes."""


class Failure(RuntimeError):
    """The work could not be finished, through no fault of the flags; one line, exit code 1."""
