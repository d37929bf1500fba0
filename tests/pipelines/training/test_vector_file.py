"""Vectors of our words, out of files like those that GloVe and fastText publish."""

import bz2
import gzip

import numpy as np
import pytest

from pipelines.training import vector_file
from pipelines.training.vector_file import read_vectors, require_vectors
from sentiment.errors import InputError

WORDS = ("<pad>", "<unk>", "good", "日", "bad", ":)")
GLOVE = "the 1 2 3\ngood 0.5 -1e-3 4\n. . . 9 9 9\n日 7 8 9\ngood 6 6 6\nlast 1 1 1"
EXPECTED = {2: [0.5, -1e-3, 4], 3: [7, 8, 9]}


def found(path, size=3):
    ids, vectors = read_vectors(str(path), WORDS, size)
    assert ids.dtype == np.int32
    assert vectors.dtype == np.float32
    return dict(zip(ids.tolist(), vectors.tolist(), strict=True))


@pytest.mark.parametrize("blank", [" ", "\t", "  "])
@pytest.mark.parametrize("header", ["", "6 3\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
@pytest.mark.parametrize(
    ("suffix", "compress"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)]
)
@pytest.mark.parametrize("buffer", [1, 7, 2**20])
def test_the_first_vector_of_each_word_is_read(
    tmp_path, monkeypatch, blank, header, end, suffix, compress, buffer
):
    monkeypatch.setattr(vector_file, "BUFFER_BYTES", buffer)
    path = tmp_path / f"vectors.txt{suffix}"
    path.write_bytes(compress((header + GLOVE).replace(" ", blank).replace("\n", end).encode()))
    assert found(path) == {index: pytest.approx(numbers) for index, numbers in EXPECTED.items()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "none of the 6 words"),
        ("other 1 2 3\n", "none of the 6 words"),
        ("\ngood 1 2 3\n", "line 1: not a token and 3 numbers"),
        ("9\ngood 1 2 3\n", "line 1: not a token and 3 numbers"),
        ("the 1 2\ngood 1 2\n", "its vectors have 2 numbers: pass --embedding_size 2"),
        ("9 300\ngood 1 2 3\n", "its vectors have 300 numbers: pass --embedding_size 300"),
        ("the 1 2 3\ngood 1 2\n", "line 2: not a token and 3 numbers"),
        ("the 1 2 3\ngood 1 x 2\n", "line 2: not a token and 3 numbers"),
        ("the 1 2 3\ngood 1 nan 2\n", "line 2: not a token and 3 numbers"),
        ("the 1 2 3\ngood 1 1e39 2\n", "line 2: not a token and 3 numbers"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_file_that_holds_no_such_vectors_is_named(tmp_path, content, said):
    (tmp_path / "vectors.txt").write_text(content)
    with pytest.raises(InputError, match=f"--initial_vectors .*vectors.txt.*{said}"):
        found(tmp_path / "vectors.txt")
    # Before Ray starts, the first line tells.
    if not content or "numbers: pass" in said or "line 1" in said:
        with pytest.raises(InputError, match=said if content else "vectors.txt is empty$"):
            require_vectors(str(tmp_path / "vectors.txt"), 3)
    else:
        require_vectors(str(tmp_path / "vectors.txt"), 3)


@pytest.mark.parametrize("name", ["none.txt", "cut.txt.gz", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(GLOVE.encode() * 100)[:-40])
    with pytest.raises(InputError, match=r"--initial_vectors .* cannot be read"):
        found(tmp_path / name)
