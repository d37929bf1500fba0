"""Compiled code is cached in a directory that only this user can write to, or not at all."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sentiment import numba_cache
from sentiment.numba_cache import private_directory
from testing.generated import save_checkpoint


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    """The only directory for temporary files."""
    base = tmp_path / "base"
    base.mkdir(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    monkeypatch.setattr(numba_cache, "_SHARED_MEMORY", "/proc")
    return base


def test_the_directory_is_private_and_found_again(base):
    directory = private_directory()
    assert directory is not None
    assert Path(directory).parent == base
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert private_directory() == directory


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o705])
def test_a_directory_that_others_can_look_into_is_not_used(base, mode):
    os.chmod(private_directory() or "", mode)
    assert private_directory() is None


def test_a_link_is_not_followed(base, tmp_path):
    planted = tmp_path / "planted"
    planted.mkdir(0o700)
    (base / f"sentiment-numba-{os.geteuid()}").symlink_to(planted)
    assert private_directory() is None


@pytest.mark.parametrize(("mode", "is_safe"), [(0o777, False), (0o775, False), (0o1777, True)])
def test_a_directory_that_others_could_exchange_is_not_used(base, mode, is_safe):
    base.chmod(mode)
    assert (private_directory() is not None) == is_safe


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user_is_not_used(base):
    os.chown(private_directory() or "", 12345, 12345)
    assert private_directory() is None


def test_shared_memory_does_where_there_is_no_other_directory(base, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    monkeypatch.setattr(numba_cache, "_SHARED_MEMORY", str(base))
    assert Path(private_directory() or "").parent == base


TWICE = """
from sentiment.numba_cache import cached_njit

@cached_njit()
def twice(number):
    return 2 * number
"""

CALLED = """
import importlib, os, sys, tempfile
from sentiment import numba_cache

numba_cache._SHARED_MEMORY = "/proc"
tempfile.tempdir = os.environ["TMPDIR"]  # Else Python would look for another one.
sys.path[:0] = sys.argv[1:]
for name in ("warm", "cold"):
    twice = importlib.import_module(name).twice
    assert twice(21) == 42
    hits, misses = (sum(each.values()) for each in twice.stats[1:])
    print(name, hits, misses, twice.stats.cache_path)
"""


@pytest.mark.process
def test_code_is_cached_where_neither_its_directory_nor_the_home_can_be_written_to(tmp_path):
    """Compiled code beside it, as in an image, is used; else it is compiled once, or each time."""
    warm, cold, base = tmp_path / "warm", tmp_path / "cold", tmp_path / "base"
    for directory, name in ((warm, "warm"), (cold, "cold")):
        directory.mkdir()
        (directory / f"{name}.py").write_text(TWICE)
    base.mkdir(0o700)
    command = [sys.executable, "-c", CALLED, str(warm), str(cold)]
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root), "HOME": "/proc/none", "TMPDIR": str(base)}

    def call(*prefix: str) -> list[list[str]]:
        done = subprocess.run(
            [*prefix, *command], env=environment, check=True, capture_output=True, text=True
        )
        return [line.split() for line in done.stdout.splitlines()]

    call()
    shutil.rmtree(cold / "__pycache__")
    for directory in (warm / "__pycache__", warm, cold):
        directory.chmod(0o555)
    # Root can write anywhere, unless it has no capabilities.
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if prefix and not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    private = str(base / f"sentiment-numba-{os.geteuid()}")
    for misses in ("1", "0"):
        first, second = call(*prefix)
        assert first[1:3] == ["1", "0"]
        assert first[3].startswith(private)
        assert second[2] == misses
        assert second[3].startswith(private)
    shutil.rmtree(private)
    base.chmod(0o555)
    assert [line[2:] for line in call(*prefix)] == [["1", "None"], ["1", "None"]]


FULL = """
import os, resource, sys, tempfile
from sentiment import numba_cache

numba_cache._SHARED_MEMORY = "/proc"
tempfile.tempdir = os.environ["TMPDIR"]
os.access = lambda path, mode: path.startswith(tempfile.tempdir)  # Root can write anywhere.
# A longer file cannot be written, nor any of its end: an OSError, as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from warm import twice
print(twice(21), twice(1.5), twice.stats.cache_path)
"""


@pytest.mark.process
@pytest.mark.parametrize("is_copied", [True, False])
@pytest.mark.parametrize("most_bytes", [100, 2000])
def test_what_cannot_be_saved_costs_the_cache_and_no_more(tmp_path, most_bytes, is_copied):
    """Of 2,000 bytes the index can be saved, and not the code."""
    base = tmp_path / "base"
    base.mkdir(0o700)
    (tmp_path / "warm.py").write_text(TWICE)
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{root}:{tmp_path}", "HOME": "none", "TMPDIR": str(base)}
    if is_copied:
        beside = [sys.executable, "-c", "from warm import twice; twice(21)"]
        subprocess.run(beside, cwd=base, env=environment | {"HOME": str(base)}, check=True)
        assert list(tmp_path.glob("__pycache__/*.nbc"))
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL, str(most_bytes)],
        cwd=base,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *answers, cache = done.stdout.split()
    assert answers == ["42", "3.0"]
    assert cache.startswith(f"{base}/sentiment-numba-")
    assert done.stderr == (
        f"Compiled code cannot be written to {cache} (File too large), so each process compiles, "
        "some 20 s: set NUMBA_CACHE_DIR to another directory\n"
    )
    assert {path.suffix for path in base.rglob("*") if path.is_file()} <= {".nbi"}


def test_without_room_for_numbas_directories_there_is_no_cache(base):
    """Numba finds none either for code that is in no file."""
    assert numba_cache._with_private_cache(eval("lambda number: 2 * number"), {}) is None


CACHED = """
from pathlib import Path
from numba import njit
from other import intrinsic
from sentiment.numba_cache import cached_njit

@cached_njit(str(Path(__file__).parent / "other.py"))
def function(a):
    return intrinsic(a)

function(1.0)
print(sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))
"""

OTHER = """
from numba import njit

@njit
def intrinsic(a):
    return a
"""


@pytest.mark.process
def test_a_change_of_another_file_compiles_anew(tmp_path):
    """Compiled code is loaded in the next process, and compiled anew if what it calls changes."""
    (tmp_path / "other.py").write_text(OTHER)
    (tmp_path / "cached.py").write_text(CACHED)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def hits_and_misses() -> str:
        done = subprocess.run(
            [sys.executable, "cached.py"],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    assert hits_and_misses() == "0 1"
    assert hits_and_misses() == "1 0"
    (tmp_path / "other.py").write_text(OTHER + "# Changed.\n")
    assert hits_and_misses() == "0 1"
    assert hits_and_misses() == "1 0"


SLOW_CALLS = """
import numpy as np
import pyarrow as pa
from numba.core.dispatcher import _DispatcherBase

from pipelines.sources.formats import FORMATS
from pipelines.sources.options import ReadOptions
from sentiment.model.kernel import LSTMKernel
from sentiment.text.tokenizer import SPECIALS, Tokenizer
from testing.networks import KINDS, random_checkpoint

slow = []
compile_for_args = _DispatcherBase._compile_for_args

def counted(self, *arguments, **named):
    slow.append(self.py_func.__name__)
    return compile_for_args(self, *arguments, **named)

_DispatcherBase._compile_for_args = counted
encoder = Tokenizer([]).encoder([*SPECIALS, "good"])
kernels = [LSTMKernel(random_checkpoint(**kind).network) for kind in KINDS.values()]

def work():
    for name, content in {"csv": b"text\\ngood\\n", "json": b'{"text":"good"}\\n'}.items():
        source = pa.BufferReader(content)
        for rows in FORMATS[name].rows(source, name, ["text"], ReadOptions(), None, ()):
            ids = encoder(rows.table["text"])
            for kernel in kernels:
                kernel(ids.heads(np.diff(ids.offsets)), ids.offsets)

work()
slow.clear()
work()
print(slow)
"""


@pytest.mark.process
def test_no_call_of_a_compiled_function_looks_for_its_types_anew():
    """That takes a tenth of a millisecond, which small shards and parts would wait for."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SLOW_CALLS],
        env=os.environ | {"PYTHONPATH": str(root)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.process
def test_numba_loads_nothing_that_our_functions_do_not_call(tmp_path):
    save_checkpoint(tmp_path / "model")
    code = f"""
import sys
import sentiment
from sentiment.numba_cache import load_numba

load_numba()
answers = sentiment.load({str(tmp_path / "model")!r}).predict(["lovely"])
print(len(answers), *{{"scipy.linalg", "cffi"}} & sys.modules.keys())
import cffi, scipy.linalg
print(scipy.linalg.det([[2.0]]), cffi.FFI().sizeof("char"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["1", "2.0 1"], done.stderr
