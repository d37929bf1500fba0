"""Optional packages: which extra of the distribution installs them."""

from importlib.util import find_spec

from sentiment.errors import InputError

EXTRAS = {
    **dict.fromkeys(("keras", "matplotlib", "pydantic", "requests", "scipy", "sklearn"), "train"),
    **dict.fromkeys(("tensorboard", "tensorboardX", "tensorflow"), "train"),
    **dict.fromkeys(("threadpoolctl", "yaml"), "train"),
    "onnx": "export",
    "huggingface_hub": "hub",
    "mlflow": "mlflow",
}
"""The extra that brings a top-level module."""


def which_extra(module: str | None) -> str:
    """One line that says how to install a missing module, or "" if no extra brings it."""
    top_level = (module or "").partition(".")[0]
    if top_level not in EXTRAS:
        return ""
    extra = EXTRAS[top_level]
    return f"{top_level} is not installed: pip install 'sentiment-pipelines[{extra}]'"


def require_module(module: str) -> None:
    """Raise an InputError that names the extra, unless the module is installed."""
    if find_spec(module) is None:
        raise InputError(which_extra(module))
