"""Publish a checkpoint on the Hugging Face Hub: its files, and the model card as README.md.

    python -m pipelines.publish --checkpoints_dir checkpoints/demo --repo OWNER/NAME --private

Needs a token of the Hub: HF_TOKEN, or `hf auth login`.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.console import command
from pipelines.console.extras import require_module
from pipelines.console.terminal import printable, warn
from pipelines.console.waiting import waiting
from pipelines.errors import Failure
from sentiment import checkpoint, storage
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError, on_one_line
from sentiment.hub import without_warnings

CARD = "README.md"

_HASH = re.compile(rb"^\| model hash \| ([0-9a-f]{64}) \|\r?$", re.MULTILINE)
"""In the card that `pipelines.evaluate` writes: of which model it is. An editor may end its lines
with CRLF."""

SILENCE_SECONDS = 60.0
"""The longest that the Hub may take to connect, to take the next bytes, or to answer. The package
tries some requests six times."""


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

    Raises InputError for a checkpoint, card, name or token that cannot be used, and Failure if the
    Hub cannot be reached, or is silent for SILENCE_SECONDS.
    """
    require_module("huggingface_hub")
    _require_name(config.repo)
    # Loaded whole, so that nothing damaged is published.
    trained = checkpoint.load(config.checkpoints_dir)
    contents = {**trained.files(), **_card(config.checkpoints_dir, trained.model_hash)}
    if CARD not in contents:
        print(
            f"There is no model card: python -m pipelines.evaluate --checkpoints_dir "
            f"{config.checkpoints_dir} writes one"
        )
    with waiting(f"Publishing {printable(config.checkpoints_dir)} as {config.repo}"):
        address = _commit(config, trained, contents)
    print(f"Published: {address}")


def _require_name(repo: str) -> None:
    """Raise an InputError unless --repo is OWNER/NAME: the Hub would create it without an owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # Lazy.

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"--repo {repo}: {on_one_line(error)}") from error
    if "/" not in repo:
        raise InputError(f"--repo {repo} does not say whose it is: write OWNER/NAME")


def _card(directory: str, model_hash: str) -> dict[str, bytes]:
    """The model card, if there is one.

    Raises InputError if it is that of another model, or not UTF-8, as the Hub wants it.
    """
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
    try:
        card.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    return {CARD: card}


def _commit(config: PublishConfig, trained: Checkpoint, contents: dict[str, bytes]) -> str:
    """Commit the files; the commit's address."""
    from huggingface_hub import CommitOperationAdd, HfApi, errors
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # Lazy.

    disable_progress_bars()
    _limit_silence()
    hub = HfApi(library_name="sentiment-pipelines")
    # Buffers are uploaded by HTTP. Bytes would be by native code, hf_xet, which is deaf to signals
    # and waits for a silent server for 5 minutes at a time, or for ever.
    files = [CommitOperationAdd(name, io.BytesIO(content)) for name, content in contents.items()]
    try:
        with without_warnings(), _notes_of_the_hub():
            hub.create_repo(config.repo, private=config.private or None, exist_ok=True)
            if config.branch is not None:
                hub.create_branch(config.repo, branch=config.branch, exist_ok=True)
            # One by one: of several at once, threads would hold up the program's end after Ctrl-C.
            for file in files:
                hub.preupload_lfs_files(
                    config.repo, [file], revision=config.branch, free_memory=False
                )
            commit = hub.create_commit(
                config.repo,
                files,
                commit_message=f"Model {trained.model_hash[:12]}",
                revision=config.branch,
            )
        return str(commit.commit_url)
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"{_NO_ACCESS} {config.repo}: {_LOG_IN}") from error
    except Exception as error:  # Also those of the HTTP client.
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = printable(f"{on_one_line(error):.300}")
        if status in (401, 403, 404):
            raise InputError(f"{_NO_ACCESS} {config.repo}: {_LOG_IN} ({reason})") from error
        # So the client raises what the Hub says of the card's metadata.
        if isinstance(error, ValueError) and isinstance(error.__cause__, errors.BadRequestError):
            card = storage.join(config.checkpoints_dir, CARD)
            raise InputError(f"the Hub refuses {card}: {reason}: correct it") from error
        if _timed_out(error):
            raise Failure(
                f"--repo {config.repo} cannot be written: the Hub does not answer "
                f"within {SILENCE_SECONDS:g} s: run the same command again"
            ) from error
        raise Failure(
            f"--repo {config.repo} cannot be written: {reason}: run the same command again"
        ) from error


def _limit_silence() -> None:
    """Let the package's HTTP client wait for SILENCE_SECONDS at most; its own waits for ever.

    All that is sent may take longer. The package makes a new client after some errors, too.
    """
    from huggingface_hub import get_session, set_client_factory

    default = get_session()
    set_client_factory(
        lambda: type(default)(
            event_hooks=default.event_hooks, follow_redirects=True, timeout=SILENCE_SECONDS
        )
    )


@contextmanager
def _notes_of_the_hub() -> Iterator[None]:
    """Context manager: print what the Hub notes about a card, which the package gives to Python's
    warnings."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        yield
    for note in notes:
        warn(f"Warning: the Hub says: {printable(on_one_line(note.message))}")


def _timed_out(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a server's silence."""
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # Lazy.

    while error is not None and not isinstance(error, httpx.TimeoutException):
        error = error.__cause__
    return error is not None


_NO_ACCESS = "the Hub does not let you write to --repo"
_LOG_IN = "set HF_TOKEN to a token that may write, or run `hf auth login`"


def load() -> command.Program[Any]:
    """The program and its flags."""
    return main, PublishConfig


if __name__ == "__main__":
    command.run(load)
