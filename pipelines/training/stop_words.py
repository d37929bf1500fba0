"""The stop words of `--stopwords_file`: words that the tokenizer leaves out."""

from sentiment import storage
from sentiment.errors import InputError
from sentiment.text.tokenizer import Tokenizer


def read_stop_words(path: str | None) -> tuple[str, ...]:
    """Read a file of stop words, one per line; None: no stop words.

    Duplicates and blank lines are dropped. Raises InputError if the file cannot be read, or if the
    tokenizer does not accept a word.
    """
    if path is None:
        return ()
    try:
        lines = storage.read(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--stopwords_file {path} cannot be read: {error}") from None
    words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    Tokenizer(words)
    return words
