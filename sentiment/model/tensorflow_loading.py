"""Load TensorFlow without what it would load beside it, for functions that nothing here calls."""

import os
import sys
from importlib import import_module

from sentiment.hidden_modules import hidden

FOR_TRAINING = ("matplotlib", "sklearn")
"""Keras loads them where they are installed: a third of what loading takes."""

FOR_SCORING = ("keras",)
"""TensorFlow loads it where it is installed: nearly half of what loading takes."""


def load_tensorflow(unneeded: tuple[str, ...]) -> None:
    """Load TensorFlow, unless it is loaded, without these modules, which it would load.

    They can be loaded afterwards as ever.
    """
    if "tensorflow" in sys.modules:
        return
    # Its log is of no use to a user; errors are raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with hidden(*unneeded):
        import_module("tensorflow")
