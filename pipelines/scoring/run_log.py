"""The log of an output: a file in `_manifest/` for each run, from its begin to its end.

A file is written when the run begins, and again when it ends: one that never says how its run ended
is of a run that still goes on, or was killed. Nights in a row with nothing to do share a file.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import PurePosixPath
from socket import gethostname
from typing import Any

import psutil

from pipelines.errors import Failure
from pipelines.scoring.acceptance import Unaccepted
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.output import CONCURRENT_FILES, Output
from pipelines.scoring.run_record import RunSummary
from sentiment import storage
from sentiment.errors import on_one_line

COMPLETE, FAILED, INTERRUPTED, IDLE = "complete", "failed", "interrupted", "nothing to do"
"""How a run ends. `IDLE`: every shard was scored already."""

MAX_REASON_CHARACTERS = 400
"""Of an error, in a run's file."""


class RunLog:
    """Writes the file of a run. An output without a plan has none yet.

    What cannot be written is left out: the error that is under way says more.

    Args:
        config: the flags.
        model_hash: of the model.
        output: the output.
        summary: what the run has done; read at its end.
    """

    def __init__(
        self, config: ScoreConfig, model_hash: str, output: Output, summary: RunSummary
    ) -> None:
        self._output, self._summary = output, summary
        self._began = time.time()
        self._begun_with: list[int] | None = None
        self._head = {
            "version": version("sentiment-pipelines"),
            "model_hash": model_hash,
            "flags": asdict(config),
            "began": self._began,
            "process": this_process(),
        }
        self._judged = Unaccepted()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Context manager: its block is the run, which begins here and ends with it."""
        self.begin()
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise
        self._end(COMPLETE, "")

    def fail(self, error: BaseException) -> None:
        """Write that the run has ended with an error, or was interrupted."""
        is_interrupt = isinstance(error, KeyboardInterrupt)
        self._end(INTERRUPTED if is_interrupt else FAILED, _reason(error))

    def begin(self) -> None:
        """Write that the run has begun, once there is a plan, and which plans it has made."""
        made = list(self._output.made_plans)
        if self._output.plans and made != self._begun_with:
            self._begun_with = made
            self._write(self._head | {"plans": made})

    def judge(self, judged: Unaccepted) -> None:
        """Remember what `--max_rejected` has judged."""
        self._judged = judged

    def _end(self, how: str, why: str) -> None:
        if not self._output.plans:
            return
        end = {
            "ended": time.time(),
            "end": how,
            "why": why,
            "plans": list(self._output.made_plans),
            "removed": dict(self._output.removed),
            "judged": asdict(self._judged),
        }
        self._write(self._head | self._summary.contents(self._output.plans.classes) | end)

    def _write(self, contents: dict[str, Any]) -> None:
        with suppress(OSError, Failure):
            self._output.record(contents, int(1000 * self._began))


def log_idle(output: Output) -> None:
    """Write that a run had nothing to do, into the last file if that says so, too."""
    now, times = time.time(), 1
    contents: dict[str, Any] = {"version": version("sentiment-pipelines"), "began": now}
    began_ms = int(1000 * now)
    with suppress(OSError, Failure):
        for name in run_names(output.directory)[-1:]:
            for record in read_runs(output.directory, [name]):
                if record.get("end") == IDLE and isinstance(record.get("times"), int):
                    contents, times = record, record["times"] + 1
                    began_ms = int(PurePosixPath(name).stem.removeprefix("run-"))
        output.record(contents | {"times": times, "end": IDLE, "ended": now}, began_ms)


def run_names(directory: str) -> list[str]:
    """The names of an output's files of runs, the latest last. Raises OSError."""
    names = storage.names(storage.join(directory, "_manifest"))
    return sorted(
        (name for name in names if name.startswith("run-")), key=lambda name: (len(name), name)
    )


def read_runs(directory: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The contents of files of runs, read side by side; damaged ones are left out."""

    def read(name: str) -> object:
        try:
            return json.loads(storage.read(storage.join(directory, "_manifest", name)))
        except (OSError, ValueError):
            return None

    with ThreadPoolExecutor(CONCURRENT_FILES) as pool:
        for record in pool.map(read, names):
            if isinstance(record, dict):
                yield record


def this_process() -> dict[str, Any]:
    """What tells this process from others: its host, number and begin, in seconds since 1970."""
    process = psutil.Process()
    return {"host": gethostname(), "pid": os.getpid(), "began": process.create_time()}


def is_alive(process: dict[str, Any]) -> bool | None:
    """Whether a process still runs, as `this_process` told it; None: it is of another host."""
    if process["host"] != gethostname():
        return None
    try:
        found = psutil.Process(process["pid"])
        return bool(abs(found.create_time() - process["began"]) < 2 and found.is_running())
    except psutil.NoSuchProcess:
        return False


def _reason(error: BaseException) -> str:
    message = on_one_line(error)
    if not isinstance(error, Failure | KeyboardInterrupt | OSError | ValueError):
        message = f"{type(error).__name__}: {message}"
    return message[:MAX_REASON_CHARACTERS]
