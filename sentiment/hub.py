"""Files of models on the Hugging Face Hub, by URIs `hf://OWNER/NAME[@REVISION][/DIRECTORY]/FILE`.

The package `huggingface_hub`, of the extra `hub`, downloads them into its cache, which also works
without a network. Its variables apply: HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE.
"""

import logging
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sentiment.errors import InputError, on_one_line

SCHEME = "hf://"

_URI = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?"
    r"(?:/(?P<name>[^@]*))?"
)


@dataclass(frozen=True)
class _File:
    """A file, or a directory, of a model."""

    repository: str
    revision: str
    """Branch, tag or commit."""
    name: str
    """Its path in the repository."""

    @staticmethod
    def parse(uri: str) -> "_File":
        match = _URI.fullmatch(uri.rstrip("/"))
        if not match or match["repository"].startswith(("datasets/", "spaces/", "models/")):
            # What stands before an "@" may be a secret.
            shown = SCHEME + uri.removeprefix(SCHEME).rpartition("@")[2]
            raise InputError(
                f"{shown} does not name a model: write hf://OWNER/NAME, "
                "hf://OWNER/NAME@REVISION or hf://OWNER/NAME/DIRECTORY"
            )
        revision = urllib.parse.unquote(match["revision"] or "main")
        return _File(match["repository"], revision, match["name"] or "")


def pinned(directory: str, name: str) -> str:
    """The URI of a directory with the commit that its revision names now, or named offline.

    Downloads the file `name` in it. Errors as of `downloaded`.
    """
    found = _File.parse(directory)
    path = downloaded(f"{directory.rstrip('/')}/{name}")
    commit = Path(path).parents[f"{found.name}/{name}".strip("/").count("/")].name
    return f"{SCHEME}{found.repository}@{commit}/{found.name}".rstrip("/")


def downloaded(uri: str, max_bytes: float = float("inf")) -> str:
    """The path of a file in the cache, downloaded if it is not there.

    Raises InputError if there is no such model or revision, if access is refused, or if the file
    is larger than `max_bytes`; FileNotFoundError if the model lacks the file; and OSError if the
    Hub cannot be reached and the file is not in the cache.
    """
    file = _File.parse(uri)
    try:
        from huggingface_hub import errors, hf_hub_download
    except ModuleNotFoundError:
        raise InputError(
            f"{uri} needs huggingface_hub: pip install 'sentiment-pipelines[hub]'"
        ) from None
    model, revision, name = f"{SCHEME}{file.repository}", file.revision, file.name
    try:
        with without_warnings():
            size = hf_hub_download(file.repository, name, revision=revision, dry_run=True).file_size
            if size is not None and size > max_bytes:
                raise InputError(f"{uri} has {size:,} bytes; the limit is {max_bytes:,} bytes")
            return hf_hub_download(file.repository, name, revision=revision)
    except errors.GatedRepoError as error:
        raise InputError(
            f"{model} is gated: ask for access on its page, then set HF_TOKEN to your token"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{model}: there is no such model, or it is private: check the name; HF_TOKEN or "
            "`hf auth login` gives access"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{model} has no branch, tag or commit {revision!r}") from error
    except errors.RemoteEntryNotFoundError as error:
        raise FileNotFoundError(f"{model} has no file {name} at {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise OSError(
            f"{model} cannot be reached, and {name} at {revision!r} is not in the cache of "
            "this machine: check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from error
    except errors.HFValidationError as error:
        raise InputError(f"{model} does not name a model: {on_one_line(error)}") from error
    except InputError:
        raise
    except Exception as error:  # Of the HTTP client, which is not ours to know.
        raise OSError(f"{uri} cannot be read: {on_one_line(error)[:300]}") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Context manager: keep back the package's warnings, one for each retry.

    If all of them fail, an error says so.
    """
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
