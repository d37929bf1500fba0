"""Publish a checkpoint on the Hugging Face Hub: its files, and the model card as README.md.

    python -m pipelines.publish --checkpoints_dir checkpoints/demo --repo OWNER/NAME --private

Needs a token of the Hub: HF_TOKEN, or `hf auth login`.
"""

import re
from dataclasses import dataclass
from typing import Any

from pipelines.console import command
from pipelines.console.extras import require_module
from pipelines.console.terminal import printable
from pipelines.errors import Failure
from sentiment import checkpoint, storage
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError, on_one_line

CARD = "README.md"

_HASH = re.compile(rb"^\| model hash \| ([0-9a-f]{64}) \|$", re.MULTILINE)
"""In the card that `pipelines.evaluate` writes: of which model it is."""


@dataclass(frozen=True)
class PublishConfig:
    """Publish a checkpoint on the Hugging Face Hub, in one commit. Others load it by hf://REPO.

    HF_TOKEN or `hf auth login` gives access. Published are the checkpoint's own files and the model
    card that `pipelines.evaluate` writes, README.md. The report is not: it quotes texts."""

    checkpoints_dir: str
    """Directory or URI of a checkpoint, as `pipelines.train` printed it."""
    repo: str
    """OWNER/NAME on the Hub. It is created if it does not exist."""
    private: bool = False
    """Create it as a private one; one that exists stays what it is."""
    branch: str | None = None
    """Branch that gets the commit; None: main."""


def main(config: PublishConfig) -> None:
    """Create the repository, commit the files, and print the address of the commit.

    Raises InputError for a checkpoint, name or token that cannot be used, and Failure if the Hub
    cannot be reached.
    """
    require_module("huggingface_hub")
    # Loaded whole, so that nothing damaged is published.
    trained = checkpoint.load(config.checkpoints_dir)
    contents = {**trained.files(), **_card(config.checkpoints_dir, trained.model_hash)}
    if CARD not in contents:
        print(
            f"There is no model card: python -m pipelines.evaluate --checkpoints_dir "
            f"{config.checkpoints_dir} writes one"
        )
    print(f"Published: {_commit(config, trained, contents)}")


def _card(directory: str, model_hash: str) -> dict[str, bytes]:
    """The model card, if there is one. Raises InputError if it is that of another model."""
    path = storage.join(directory, CARD)
    if not storage.exists(path):
        return {}
    card = storage.read(path)
    if (of_model := _HASH.search(card)) and of_model[1].decode() != model_hash:
        raise InputError(
            f"{path} describes an earlier model (hash {of_model[1].decode()[:12]}, now "
            f"{model_hash[:12]}): python -m pipelines.evaluate --checkpoints_dir {directory} "
            "writes it anew"
        )
    return {CARD: card}


def _commit(config: PublishConfig, trained: Checkpoint, contents: dict[str, bytes]) -> str:
    """Commit the files; the commit's address."""
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    hub = HfApi(library_name="sentiment-pipelines")
    try:
        hub.create_repo(config.repo, private=config.private or None, exist_ok=True)
        if config.branch is not None:
            hub.create_branch(config.repo, branch=config.branch, exist_ok=True)
        commit = hub.create_commit(
            config.repo,
            [CommitOperationAdd(name, content) for name, content in contents.items()],
            commit_message=f"Model {trained.model_hash[:12]}",
            revision=config.branch,
        )
        return str(commit.commit_url)
    except errors.HFValidationError as error:
        raise InputError(f"--repo {config.repo}: {on_one_line(error)}") from error
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"{_NO_ACCESS} {config.repo}: {_LOG_IN}") from error
    except Exception as error:  # Also those of the HTTP client, which is not ours to know.
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = printable(f"{on_one_line(error):.300}")
        if status in (401, 403, 404):
            raise InputError(f"{_NO_ACCESS} {config.repo}: {_LOG_IN} ({reason})") from error
        raise Failure(
            f"--repo {config.repo} cannot be written: {reason}: run the same command again"
        ) from error


_NO_ACCESS = "the Hub does not let you write to --repo"
_LOG_IN = "set HF_TOKEN to a token that may write, or run `hf auth login`"


def load() -> command.Program[Any]:
    """The program and its flags."""
    return main, PublishConfig


if __name__ == "__main__":
    command.run(load)
