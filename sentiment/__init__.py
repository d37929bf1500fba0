"""The model as a library: texts -> token ids, classes and probabilities. Imports no Ray.

    import sentiment

    model = sentiment.load("checkpoints/demo")
    model.predict(["what a day :)", "oh no"])  # ["positive", "negative"]
    model.predict_proba(["what a day :)"])  # float32[1, classes], in the order of model.classes

`sentiment.Scorer` adds the same to batches of rows, in pipelines of Ray Data, Spark or Daft.

A checkpoint or text that cannot be used raises a `sentiment.InputError`.
"""

from typing import TYPE_CHECKING, Any

from sentiment.errors import InputError

if TYPE_CHECKING:
    from sentiment.predictor import Predictor, load
    from sentiment.scorer import Scorer

    __version__: str

__all__ = ["InputError", "Predictor", "Scorer", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: Numba and Arrow load slowly."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("sentiment-pipelines")
    from sentiment import predictor, scorer

    return getattr(scorer if name == "Scorer" else predictor, name)


def __dir__() -> list[str]:
    """Names for completion, including those that are not yet imported."""
    return sorted({*globals(), *__all__})
