"""The programs, `python -m pipelines.NAME`: thin over `sentiment` and Ray."""

import sys


def _interrupted(kind, error, traceback) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


# So Python calls a program while it looks for it. Its modules take a second to load; only then is
# `cli.run` there to answer Ctrl-C.
if sys.argv[0] == "-m":
    sys.excepthook = _interrupted
