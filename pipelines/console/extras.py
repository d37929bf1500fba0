"""Optional packages: which extra of the distribution installs them."""

from importlib.util import find_spec

from sentiment.errors import InputError

EXTRAS = {
    "keras": "train",
    "matplotlib": "train",
    "scipy": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "tensorflow": "train",
}
"""Top-level module -> the extra that brings it."""


def which_extra(module: str | None) -> str:
    """One line that says how to install a missing module, or "" if no extra brings it."""
    top_level = (module or "").partition(".")[0]
    extra = EXTRAS.get(top_level)
    if not extra:
        return ""
    return f"{top_level} is not installed: pip install 'sentiment-pipelines[{extra}]'"


def require_module(module: str) -> None:
    """Raise an InputError that names the extra, unless the module is installed."""
    if find_spec(module) is None:
        raise InputError(which_extra(module))
