"""Optional packages: which extra of the distribution installs them."""

from importlib.util import find_spec

from sentiment.errors import InputError

TRAIN_MODULES = {
    *("keras", "matplotlib", "pydantic", "requests", "scipy", "sklearn", "tensorboard"),
    *("tensorboardX", "tensorflow", "threadpoolctl", "yaml"),
}
"""Top-level modules that the extra `train` brings."""


def which_extra(module: str | None) -> str:
    """One line that says how to install a missing module, or "" if no extra brings it."""
    top_level = (module or "").partition(".")[0]
    if top_level not in TRAIN_MODULES:
        return ""
    return f"{top_level} is not installed: pip install 'sentiment-pipelines[train]'"


def require_module(module: str) -> None:
    """Raise an InputError that names the extra, unless the module is installed."""
    if find_spec(module) is None:
        raise InputError(which_extra(module))
