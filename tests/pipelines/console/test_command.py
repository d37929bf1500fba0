"""A user's mistake ends in one line and exit code 2, a failure in one line and exit code 1."""

import dataclasses
import re
import shlex
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipelines import score, train
from pipelines.console import command
from pipelines.console.flag_values import require
from pipelines.console.flags import parse
from pipelines.console.terminal import require_streams
from pipelines.evaluation.config import EvaluateConfig
from pipelines.predict import PredictConfig
from pipelines.scoring.audit import VerifyConfig
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.status import StatusConfig
from pipelines.training.config import TrainConfig
from sentiment.errors import InputError
from testing.programs import undated

PROGRAM = '''"""Nothing much.

    python -m program --what nothing
"""

import atexit
import ctypes
import signal
import time
from dataclasses import dataclass

from pipelines.console import command
from pipelines.console.flag_values import require
from pipelines.console.terminal import say
from pipelines.errors import Failure
from sentiment.errors import InputError


class Wrapped(RuntimeError):
    """As Ray's: carries what the task raised, and has a traceback for a message."""

    def __init__(self, cause):
        super().__init__("Traceback (most recent call last):\\n  File ...\\nInputError: remote")
        self.cause = cause


class WrappedInput(Wrapped, InputError):
    """As Ray's as_instanceof_cause: of the cause's type, too."""


class Named(RuntimeError):
    cause = "the weather"


class Kept:
    """What only an interpreter that is taken down removes."""

    def __del__(self):
        print("taken down")


kept = []


@ctypes.PYFUNCTYPE(None)
def interrupted_callback():
    """As those of llvmlite: what it raises cannot get out of it."""
    signal.raise_signal(signal.SIGINT)
    time.sleep(0)


class Fragile:
    def __del__(self):
        raise ValueError("a bug of a destructor")


@dataclass(frozen=True)
class Config:
    """Do what is asked."""

    what: str
    """What to do."""
    rows_a_part: int = 3
    """Rows."""
    column: str | None = None
    """A column."""

    def __post_init__(self):
        require(self.rows_a_part > 0, "rows_a_part", self.rows_a_part, "above 0")


def main(config):
    bad = InputError("row 3 is bad")
    match config.what:
        case "nothing":
            print("done", config)
        case "input":
            raise bad
        case "lines":
            raise InputError("a\\nb\\u2028c")
        case "failure":
            raise Failure("worker 1 died")
        case "interrupt":
            raise KeyboardInterrupt
        case "terminate":
            signal.raise_signal(signal.SIGTERM)
        case "interrupt a callback":
            interrupted_callback()
            time.sleep(20)
        case "terminate a destructor":
            class Interrupted:
                def __del__(self):
                    signal.raise_signal(signal.SIGTERM)
                    time.sleep(0)

            Interrupted()
            time.sleep(20)
        case "bug of a destructor":
            Fragile()
        case "end":
            kept.append(Kept())
            atexit.register(print, "at exit")
            raise Failure("the end")
        case "stop slowly":
            try:
                say("working")
                time.sleep(60)
            finally:
                say("stopping")
                time.sleep(60)
        case "wrapped":
            raise Wrapped(bad)
        case "wrapped twice":
            raise WrappedInput(Wrapped(bad))
        case "wrapped in a cause":
            raise RuntimeError("outside") from WrappedInput(bad)
        case "wrapped with a cause":
            try:
                raise OSError("inner")
            except OSError as error:
                bad.__cause__ = error
            raise WrappedInput(bad)
        case "wrapped failure":
            raise Wrapped(Failure("worker 1 died"))
        case "disk":
            raise OSError(5, "Input/output error", "a file")
        case "wrapped disk":
            raise Wrapped(OSError(5, "Input/output error", "a file"))
        case "bug":
            raise RuntimeError("a bug")
        case "wrapped bug":
            raise Wrapped(RuntimeError("a bug"))
        case "bug with a name":
            raise Named("a bug")
        case "while handling":
            try:
                raise bad
            except InputError:
                raise RuntimeError("a bug")
        case "write":
            for _ in range(100_000):
                print("a line")
        case "log":
            say("\\nworking")
            raise Failure("the end")
        case "say":
            for _ in range(100_000):
                say("a line")


if __name__ == "__main__":
    command.run(lambda: (main, Config))
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    directory = tmp_path_factory.mktemp("program")
    (directory / "program.py").write_text(PROGRAM)

    def run(
        *arguments: str, code: int = 0, stderr: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[3]
        done = subprocess.run(
            [sys.executable, "-m", "program", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=60,
            cwd=directory,
            env={"PYTHONPATH": str(root), "COLUMNS": "60", "TZ": "Pacific/Auckland"},
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.mark.process
def test_lines_of_a_log_begin_with_the_local_date_and_time(program):
    before = datetime.now().replace(microsecond=0)
    log = program("--what", "log", code=1, stderr=subprocess.STDOUT).stdout
    dated = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (.*)$", log, re.MULTILINE)
    assert [line for _, line in dated] == ["working", "error: the end"], log
    assert log.count("\n") == 2
    auckland = ZoneInfo("Pacific/Auckland")
    for moment, _ in dated:
        at = datetime.fromisoformat(moment).replace(tzinfo=auckland)
        assert before.astimezone() <= at <= datetime.now().astimezone()
    # An error that is looked at alone is as short as it can be.
    assert program("--what", "log", code=1).stderr == "error: the end\n"


@pytest.mark.process
def test_done_is_0_and_silent(program):
    done = program("--what", "nothing")
    assert done.stdout == "done Config(what='nothing', rows_a_part=3, column=None)\n"
    assert done.stderr == ""


@pytest.mark.process
@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("input", 2, "row 3 is bad"),
        ("lines", 2, "a b c"),
        ("failure", 1, "worker 1 died"),
        ("interrupt", 130, "interrupted"),
        ("terminate", 143, "interrupted"),
        ("interrupt a callback", 130, "interrupted"),
        ("terminate a destructor", 143, "interrupted"),
        ("wrapped", 2, "row 3 is bad"),
        ("wrapped twice", 2, "row 3 is bad"),
        ("wrapped in a cause", 2, "row 3 is bad"),
        ("wrapped with a cause", 2, "row 3 is bad"),
        ("wrapped failure", 1, "worker 1 died"),
        ("disk", 1, "[Errno 5] Input/output error: 'a file': run the same command again"),
        ("wrapped disk", 1, "[Errno 5] Input/output error: 'a file': run the same command again"),
    ],
)
def test_what_was_foreseen_is_said_in_one_line(program, what, code, said):
    done = program("--what", what, code=code)
    assert done.stderr == f"error: {said}\n"
    assert done.stdout == ""


def test_what_stands_in_the_way_of_a_file_is_not_tried_again(tmp_path):
    for path, said in ((tmp_path, "Is a directory"), (Path(__file__) / "a", "Not a directory")):
        with pytest.raises(OSError, match=said) as raised:
            path.read_bytes()
        assert str(command.foreseen(raised.value)).endswith(": move it elsewhere and run again")


@pytest.mark.process
def test_it_ends_without_taking_down_the_interpreter_but_with_all_that_is_to_be_done(program):
    """Else threads of Arrow may ask a dying interpreter for its lock: SIGABRT."""
    done = program("--what", "end", code=1)
    assert (done.stdout, done.stderr) == ("at exit\n", "error: the end\n")


@pytest.mark.process
def test_what_a_destructor_raises_is_shown_as_ever(program):
    done = program("--what", "bug of a destructor")
    assert "ValueError: a bug of a destructor" in done.stderr


@pytest.mark.process
@pytest.mark.parametrize("what", ["bug", "wrapped bug", "bug with a name", "while handling"])
def test_what_nobody_foresaw_shows_where_it_came_from(program, what):
    done = program("--what", what, code=1)
    assert "Traceback" in done.stderr
    assert "in main" in done.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--what", "nothing", "--rows_a_part", "0"), "--rows_a_part is 0; it must be above 0"),
        (("--what", "nothing", "--rows_a_part", "many"), "--rows_a_part"),
        (("--what", "nothing", "--rows_part", "1"), "--rows_part"),
        (("--what", "nothing", "--rows_a_part"), "--rows_a_part"),
        (("--what", "nothing", "more"), "more"),
        ((), "--what"),
    ],
)
def test_flags_that_cannot_be_are_said_in_one_line(program, arguments, said):
    done = program(*arguments, code=2)
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not set("│╭╰─\x1b") & set(done.stderr)
    assert done.stdout == ""


@pytest.mark.process
def test_what_a_config_refuses_is_said_as_it_is(program):
    done = program("--what", "nothing", "--rows_a_part", "-1", code=2)
    assert done.stderr == "error: --rows_a_part is -1; it must be above 0\n"


@pytest.mark.process
def test_a_flag_that_is_nearly_right_is_suggested(program):
    done = program("--what", "nothing", "--row_a_part", "1", code=2)
    assert done.stderr == "error: there is no flag --row_a_part: did you mean --rows_a_part?\n"
    # As are those that tyro understands: with - for _, = for a space, and no_ before a switch.
    assert "rows_a_part=4" in program("--what=nothing", "--rows-a-part", "4").stdout


def test_a_flag_of_paths_without_one_is_refused():
    """What `--input $UNSET` leaves."""
    for config, flags in (
        (ScoreConfig, ["--checkpoints_dir", "a", "--input", "--output", "c"]),
        (VerifyConfig, ["a", "--input"]),
    ):
        with pytest.raises(InputError, match=r"^--input needs a path: is a variable not set"):
            parse(config, "program", "", flags)


@pytest.mark.parametrize(
    ("config", "flags", "name"),
    [
        (ScoreConfig, ["--checkpoints_dir", "a", "--input", "b", "", "--output", "c"], "--input"),
        (ScoreConfig, ["--checkpoints_dir", "a", "--input", "b", "--output", ""], "--output"),
        (TrainConfig, ["--checkpoints_root="], "--checkpoints_root"),
        (StatusConfig, [""], "output"),
        (EvaluateConfig, ["a", ""], "checkpoints"),
    ],
)
def test_a_path_from_a_variable_that_is_not_set_is_refused(config, flags, name):
    with pytest.raises(InputError, match=f"^{name} has an empty path: is a variable not set"):
        parse(config, "program", "", flags)


@pytest.mark.process
def test_help_shows_flags_and_defaults(program):
    done = program("--help")
    assert "python -m program" in done.stdout
    assert done.stderr == ""
    examples = "Examples:\n    python -m program --what nothing\n"
    for part in ("Do what is asked.", examples, "--rows_a_part", "(default: 3)", "(default: None)"):
        assert part in done.stdout
    assert "(required)" in done.stdout


@pytest.mark.parametrize("config", [TrainConfig, ScoreConfig])
def test_help_shows_flags_in_groups(config, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        command.run(lambda: (lambda flags: None, config), "program", "", ["--help"])
    shown = capsys.readouterr().out
    for title, first in config.GROUPS.items():
        _, box = shown.split(f" {title} options ")
        assert re.search(r"--\w+", box).group() == f"--{first}"


@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("program", [train, score])
def test_help_fits_the_terminal(program, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        command.run(program.load, "program", program.__doc__, ["--help"])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    description = lines[: lines.index("")]
    # Filled as far as words go, also where they are wrapped in the docstring.
    _, config = program.load()
    assert " ".join(description) == " ".join(config.__doc__.split())
    assert all(len(line) > min(width, 100) - 20 for line in description[:-1])
    # The commands are those of the docstring, wherever they are broken.
    examples = shown.partition("Examples:")[2].split("\n\n")[0]
    assert unbroken(examples) == unbroken("\n".join(re.findall("    .*", program.__doc__)))


def unbroken(commands: str) -> list[str]:
    return commands.replace("\\\n", "").split()


@pytest.mark.parametrize("config", [TrainConfig, EvaluateConfig, PredictConfig, ScoreConfig])
def test_every_flag_of_every_program_is_explained(config, monkeypatch, capsys):
    # Wider, options stand in columns beside each other.
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as end:
        command.run(lambda: (lambda flags: None, config), "program", "", ["--help"])
    assert not end.value.code
    # A flag with a long name has its explanation on the lines below.
    explained: dict[str, str] = {}
    name = ""
    for line in capsys.readouterr().out.splitlines():
        # An explanation may begin with the name of another flag, further to the right.
        is_flag, line = re.match(r"[│ ] --", line), line.strip("│ ")
        if is_flag:
            name = line.split()[0].strip("-,")
        explained[name] = explained.get(name, "") + f" {line}"
    for field in dataclasses.fields(config):
        if field.name in ("texts", "checkpoints"):
            continue
        described = explained[field.name]
        assert len(described.split()) > 4
        if type(field.default) in (int, float, str, bool):
            assert f"(default: {shlex.quote(str(field.default))})" in described
        else:
            assert re.search(r"\(required\)|\(default: (None)?\)", described)


@pytest.mark.process
@pytest.mark.parametrize(
    ("what", "code", "complaint"),
    [
        ("write", 1, "error: the output is no longer read\n"),
        ("say", 0, ""),  # The work is not what is printed: it is done to the end.
    ],
)
def test_output_that_nobody_reads_ends_a_program_whose_work_it_is(what, code, complaint, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f"{sys.executable} -m program --what {what} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    said = undated(done.stdout)
    assert (done.returncode, said, done.stderr) == (code, "a line\n", complaint)


@pytest.mark.process
@pytest.mark.parametrize(
    "words",
    [
        ["pipelines.train"],
        ["pipelines.score"],
        ["pipelines.predict"],
        ["pipelines.evaluate"],
        ["pipelines.fetch"],
        ["pipelines", "score"],
    ],
)
def test_ctrl_c_while_modules_load_is_answered_in_one_line(words, tmp_path):
    # In place of the one that takes longest.
    (tmp_path / "pyarrow.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", *words, "--checkpoints_dir", "somewhere"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.process
def test_ctrl_c_twice_ends_at_once_what_once_ends_cleanly(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "-m", "program", "--what", "stop slowly"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    for said in ("working\n", "stopping\n"):
        assert undated(process.stdout.readline()) == said
        process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "error: interrupted twice\n")
    assert process.returncode == 130


@pytest.mark.process
def test_ctrl_c_is_left_to_others_where_a_shell_has_turned_it_off(program, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "program", "--what", "stop slowly"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert undated(process.stdout.readline()) == "working\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_require_names_flag_value_and_what_would_do():
    require(True, "rows", 0, "at least 1")
    with pytest.raises(InputError, match=r"^--rows is 0; it must be at least 1$"):
        require(False, "rows", 0, "at least 1")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_encodings_that_python_has(encoding):
    TrainConfig(encoding=encoding)


@pytest.mark.parametrize("encoding", ["", "utf-9", "hex", "rot13", "undefined", "zip", "é"])
def test_encodings_that_python_does_not_have(encoding):
    with pytest.raises(InputError, match=r"^--encoding "):
        TrainConfig(encoding=encoding)


@pytest.mark.parametrize("name", ["café", "日本", "²", "", ".a", "_a", "a/b", "a\n", "a" * 101])
def test_names_of_runs_are_those_of_any_file_system(name):
    with pytest.raises(InputError, match=f"--run_name is {name}; it must be"):
        TrainConfig(run_name=name)
    for good in ("a", "-A_1.b", "a" * 100):
        TrainConfig(run_name=good)


def test_streams_that_are_closed_are_empty_or_nowhere(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    require_streams()
    with sys.stdin, sys.stdout, sys.stderr:
        assert sys.stdin.read() == ""
        print("nowhere")
        print("nowhere", file=sys.stderr)


ASCII = {
    "PYTHONPATH": str(Path(__file__).parents[3]),
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}
"""What makes Python use the locale's encoding."""

FINDS = """
from dataclasses import dataclass
import pyarrow.fs
from pipelines import score, train
from pipelines.console import command

@dataclass(frozen=True)
class Config:
    path: str
    \"\"\"Path of a file.\"\"\"

def main(config):
    print(pyarrow.fs.LocalFileSystem().get_file_info(config.path).type.name, config.path[-6:])

command.run(lambda: (main, Config))
"""


@pytest.mark.process
@pytest.mark.parametrize("more", [{}, {"PYTHONIOENCODING": "latin-1"}])
def test_paths_are_utf8_in_any_locale(tmp_path, more):
    (tmp_path / "café日.csv").write_text("text\n")
    (tmp_path / "finds.py").write_text(FINDS)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "finds.py"), "--path", str(tmp_path / "café日.csv")],
        capture_output=True,
        check=True,
        env={"PYTHONPATH": ".", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        | more,
    )
    e_acute = b"\xe9" if more else b"\\xe9"
    assert done.stdout == b"File " + e_acute + b"\\u65e5.csv\n"


@pytest.mark.process
def test_processes_that_parse_no_flags_load_no_parser():
    modules = ("scoring.ray_steps", "scoring.counting", "training.config")
    code = f"""
import sys, {", ".join(f"pipelines.{name}" for name in modules)}
assert "tyro" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
