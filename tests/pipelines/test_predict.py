"""A few texts from the arguments or standard input, in a process without Ray and TensorFlow."""

import io
import json
import subprocess
import sys
import threading
import time
from codecs import BOM_UTF8
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from pipelines.console import standard_input
from pipelines.console.standard_input import lines_of
from pipelines.sources.rows import MAX_ROW_BYTES
from sentiment import checkpoint
from sentiment.errors import InputError
from sentiment.model.inference import inference
from sentiment.network import weight_shapes
from sentiment.text.tokenizer import SPECIALS
from testing.programs import run

pytestmark = pytest.mark.process

WORDS = ("good", "bad", ":)", "don't", "日", "film")
TEXTS = ("what a good film :)", "BAD!", "", "日本", "don't", "  the\tend ")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    random = np.random.default_rng(0)
    vocabulary = (*SPECIALS, *WORDS)
    shapes = weight_shapes(len(vocabulary), 6, 5)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    directory = tmp_path_factory.mktemp("model")
    checkpoint.save(checkpoint.Checkpoint(weights, vocabulary, ("the",)), str(directory))
    return directory


def expected(model, texts) -> list[bytes]:
    """The lines that the program prints, worked out here."""
    loaded = checkpoint.load(str(model))
    ids = loaded.encoder()(pa.array(texts, pa.string()))
    heads = [ids.ids[first:last][:512] for first, last in pairwise(ids.offsets)]
    offsets = np.cumsum([0, *map(len, heads)])
    probabilities = inference(loaded.network)(np.concatenate(heads), offsets)
    names = [loaded.classes.names[winner] for winner in probabilities.argmax(axis=1)]
    answers = zip(names, probabilities.max(axis=1), texts, strict=True)
    return [f"{name}\t{p:.6f}\t{text}\n".encode() for name, p, text in answers]


def predict(
    model, stdin: bytes, code: int = 0, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.predict", "--checkpoints_dir", str(model), *flags],
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_texts_of_the_arguments(model):
    lines = expected(model, TEXTS)  # Compiles, if nothing has yet.
    done = run("predict", "--checkpoints_dir", model, *TEXTS)
    assert done.stdout.encode() == b"".join(lines)
    # A busy machine may take seconds to load it.
    assert done.stderr.replace(f"Loading the model of {model} ...\n", "") == ""
    assert len({line.split()[1] for line in expected(model, TEXTS)}) > 3


def test_an_argument_may_look_like_a_flag_or_hold_lines(model):
    done = run("predict", "--checkpoints_dir", model, "--", "-_-", "--good", "a\nb")
    lines = b"".join(expected(model, ["-_-", "--good", "a\nb"]))
    assert done.stdout.encode() == lines.replace(b"a\nb", b"a b")


def test_what_no_flag_can_be_is_a_text(model):
    texts = ["-- well said", "--: no", "--1"]
    done = run("predict", "--checkpoints_dir", model, *texts)
    assert done.stdout.encode() == b"".join(expected(model, texts))


@pytest.mark.parametrize(("end", "last"), [("\n", ""), ("\r\n", "good")])
def test_lines_of_standard_input(model, end, last):
    done = predict(model, "".join(f"{text}{end}" for text in TEXTS).encode() + last.encode())
    assert done.stdout == b"".join(expected(model, [*TEXTS, last] if last else TEXTS))
    assert done.stderr == b""


@pytest.mark.parametrize("lines", [b"good\nbad\n", b"good", b"\n", b"", b"\r\ngood\n"])
@pytest.mark.parametrize("size", [1, 2**20])
def test_a_byte_order_mark_is_no_part_of_the_first_text(monkeypatch, lines, size):
    monkeypatch.setattr(standard_input, "READ_BYTES", size)

    def read(content: bytes) -> list[bytes]:
        return [line for some in lines_of(io.BytesIO(content), 2**20) for line in some]

    assert read(BOM_UTF8 + lines) == read(lines)
    assert b"".join(read(2 * BOM_UTF8 + lines)) == BOM_UTF8 + b"".join(read(lines))


class Pieces(io.BytesIO):
    """A pipe, which gives at most 64 KiB at once, to a reader that wants all of it."""

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(2**16)


@pytest.mark.parametrize("size", [1, 3, 2**20])
def test_lines_are_the_same_however_they_arrive(monkeypatch, size):
    monkeypatch.setattr(standard_input, "READ_BYTES", size)
    lines = [b"a" * 300, b"", b"b", b"c" * 299 + b"\r", b"\r", b"", b"end"]
    content = BOM_UTF8 + b"\n".join(lines)
    read = [line for some in lines_of(io.BytesIO(content), 2**20) for line in some]
    assert read == [line.removesuffix(b"\r") for line in lines]


def test_the_time_for_a_long_line_grows_with_its_length():
    """To copy all of it for each piece took some 15 s."""
    began = time.process_time()
    (lines,) = lines_of(Pieces(b"a" * MAX_ROW_BYTES + b"\nb\n"), MAX_ROW_BYTES)
    assert time.process_time() - began < 4
    assert [len(line) for line in lines] == [MAX_ROW_BYTES, 1]


def test_a_line_that_is_too_long_is_refused_before_all_of_it_is_read():
    stream = Pieces(b"good\n" + b"a" * 2**21 + b"\nbad\n" + b"a" * 2**24)
    with pytest.raises(InputError, match="standard input, line 4 is longer than 2 MiB: "):
        list(lines_of(stream, 2**21))
    assert stream.tell() < 2**22 + 2**18


def test_a_line_longer_than_a_row_of_score_may_be_is_named(model):
    done = predict(model, b"good\n" + b"a" * (MAX_ROW_BYTES + 1), code=2)
    assert done.stdout == b"".join(expected(model, ["good"]))
    said = "error: standard input, line 2 is longer than 64 MiB: end each text by a line feed\n"
    assert done.stderr.decode() == said


def test_only_line_feeds_end_lines(model):
    texts = ["good\x0bbad", "good\u2028bad", "good\x85bad", "\ufeffgood", "go\rod"]
    done = predict(model, "".join(f"{text}\n" for text in texts).encode())
    assert done.stdout == b"".join(expected(model, texts))


def test_nothing_to_predict(model):
    done = predict(model, b"")
    assert (done.stdout, done.stderr) == (b"", b"")


def test_many_lines_and_one_that_is_long_are_counted_from_the_first(model):
    texts = [f"{WORDS[i % 6]} {i}" for i in range(100_000)]
    texts[777] = "good film " * 200_000
    lines = "".join(f"{text}\n" for text in texts).encode()
    done = predict(model, lines + b"\xff\n", code=2)
    assert done.stdout.splitlines(keepends=True) == expected(model, texts)
    assert done.stderr == b"error: standard input, line 100001 is not valid UTF-8\n"


@pytest.mark.parametrize("bad", [b"a\xff", b"\xed\xa0\x80"])
def test_invalid_utf8_is_named_by_its_line(model, bad):
    done = predict(model, b"good\n\n" + bad + b"\nbad\n", code=2)
    assert done.stderr == b"error: standard input, line 3 is not valid UTF-8\n"
    assert done.stdout == b"".join(expected(model, ["good", ""]))


def test_an_argument_that_is_invalid_utf8_is_named(model):
    command = [sys.executable, "-m", "pipelines.predict", "--checkpoints_dir", str(model)]
    done = subprocess.run(
        [*map(str.encode, command), b"good", b"\xff"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == b"".join(expected(model, ["good"]))
    assert done.stderr == b"error: text 2 is not valid UTF-8\n"


@pytest.mark.parametrize("directory", ["none", "empty"])
def test_no_checkpoint_is_misuse(tmp_path, directory):
    (tmp_path / "empty").mkdir()
    done = run("predict", "--checkpoints_dir", tmp_path / directory, "good", code=2)
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path / directory} is not a checkpoint: ")
    assert done.stderr.count("\n") == 1


def test_answers_come_while_standard_input_stays_open(model):
    command = [sys.executable, "-m", "pipelines.predict", "--checkpoints_dir", str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        # A program that waits for more input is ended, so that the reads below come to an end.
        end = threading.Timer(60, process.kill)
        end.start()
        try:
            for text, line in zip(TEXTS, expected(model, TEXTS), strict=True):
                process.stdin.write(f"{text}\n".encode())
                process.stdin.flush()
                assert process.stdout.readline() == line
            process.stdin.write(b"bad\ngo")
            process.stdin.flush()
            assert process.stdout.readline() == expected(model, ["bad"])[0]
            process.stdin.write(b"od")
            process.stdin.close()
            assert process.stdout.read() == expected(model, ["good"])[0]
        finally:
            end.cancel()
    assert process.returncode == 0


def test_neither_tensorflow_nor_ray_is_loaded(model):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['predict', '--checkpoints_dir', {str(model)!r}, 'good']\n"
        "try:\n"
        "    runpy.run_module('pipelines.predict', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "assert not {'tensorflow', 'keras', 'ray', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=False
    )
    assert done.stderr == b""
    assert done.stdout == expected(model, ["good"])[0]


def answers(lines: bytes) -> list[dict]:
    return [json.loads(line) for line in lines.splitlines()]


def test_json_lines_come_back_with_label_and_probabilities(model):
    rows = [{"text": "good film", "id": 7}, "bad", {"id": None, "text": ""}]
    done = predict(
        model, "".join(f"{json.dumps(row)}\n" for row in rows).encode(), flags=("--json",)
    )
    assert done.stderr == b""
    plain = predict(model, b"good film\nbad\n\n").stdout.decode().splitlines()
    for row, found, line in zip(rows, answers(done.stdout), plain, strict=True):
        label, probability, text = line.split("\t")
        row = {"text": row} if isinstance(row, str) else row
        assert found.items() >= row.items()
        assert (found["label"], found["text"]) == (label, text)
        assert found["probabilities"][label] == float(probability)
        assert set(found["probabilities"]) == {"negative", "positive"}
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_fields_of_json_lines_come_back_as_they_came(model):
    """Also numbers that Python cannot hold."""
    row = '{ "n": 12345678901234567890.123, "m":1e400, "a": "\\u00e9", "b": "é", "text": "good" }'
    (line,) = predict(model, f"{row}\n".encode(), flags=("--json",)).stdout.decode().splitlines()
    assert line.startswith(f'{row[:-2]}, "label": "')
    assert answers(f"{line}\n".encode())[0]["text"] == "good"


def test_an_integer_may_have_more_digits_than_python_reads(model):
    row = f'{{"n": {"9" * 5000}, "m": -{"1" * 5000}, "text": "good"}}'
    (line,) = predict(model, f"{row}\n".encode(), flags=("--json",)).stdout.decode().splitlines()
    assert line.startswith(f'{row[:-1]}, "label": "')


def test_the_text_cannot_have_the_name_of_an_answer(model):
    done = predict(model, b"", code=2, flags=("--json", "--text_column", "label"))
    assert done.stderr == b"error: --text_column label: the answer adds a field of that name\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"good", "is not JSON: give a text in quotes, or an object"),
        (
            b'{"text": "good", "n": ' + b"[" * 5000 + b"]" * 5000 + b"}",
            "cannot be read as JSON: it has too many lists or objects inside each other",
        ),
        (b'{"text": 17}', "has no text in 'text', but 17"),
        (b"[1]", "has no text 'text': --text_column names another"),
        (b'{"body": "good"}', "has no text 'text': --text_column names another"),
        (b'{"text": null}', "has no text in 'text', but null"),
        (b'{"text": ["good"]}', "has no text in 'text', but [\"good\"]"),
        (b'{"text": "good", "label": 1}', "has a field 'label', which the answer adds: rename it"),
        (b'"\xff"', "is not valid UTF-8"),
        (b'"\\ud800"', "is not valid Unicode"),
    ],
)
def test_a_line_that_is_no_json_text_is_named(model, line, said):
    done = predict(model, b'"good"\n' + line + b"\n", code=2, flags=("--json",))
    assert done.stderr == f"error: standard input, line 2 {said}\n".encode()
    assert [row["text"] for row in answers(done.stdout)] == ["good"]
