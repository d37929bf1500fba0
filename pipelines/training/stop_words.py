"""The stop words of `--stopwords_file`: words that the tokenizer leaves out."""

from importlib.resources import files

from pipelines.training.config import ENGLISH
from sentiment import storage
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer


def read_stop_words(path: str | None) -> tuple[str, ...]:
    """Read a file of stop words, one per line; "english": the package's own; None: no stop words.

    Duplicates and blank lines are dropped. Raises InputError if the file cannot be read, or if the
    tokenizer does not accept a word.
    """
    if path is None:
        return ()
    try:
        if path == ENGLISH:
            content = files("pipelines.training").joinpath("stopwords.txt").read_bytes()
        else:
            content = storage.read(path)
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"--stopwords_file {path} cannot be read: {error}") from None
    words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    try:
        Tokenizer(words)
    except InputError as error:
        raise InputError(f"--stopwords_file {path}: {error}") from None
    return words
