"""An actor with a GPU works on several parts at once. Ray only believes in this GPU."""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.part_data import REJECTED, PartCounts, PartResult, PartTask, TokenizedPart
from pipelines.scoring.part_worker import PartWorker, ReadStep, ScoreStep
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard
from sentiment.classes import BINARY, Classes
from testing.local_ray import another

pytestmark = [pytest.mark.slow(10), pytest.mark.ray, pytest.mark.process]

PARTS = 6
DEADLY = "part-000002"


@pytest.fixture(scope="module")
def ray_with_gpu():
    """A Ray of two CPUs that believes in one GPU."""
    with another(num_gpus=1):
        yield


def read(task: PartTask) -> TokenizedPart:
    """A part of no rows."""
    return TokenizedPart(
        task=task,
        kept=pa.table({"id": pa.array([], pa.int64())}),
        rejected=REJECTED.empty_table(),
        ids=np.zeros(0, np.int32),
        offsets=np.zeros(1, np.int64),
        piece_rows=np.zeros(1, np.int64),
        truncated=0,
        rejected_rows=0,
        reasons={},
    )


@dataclass
class Model:
    """Takes the place of a model."""

    load_seconds: float = 0.0


@dataclass
class Scorer:
    """Takes the place of a `PartScorer`."""

    infer: Model = field(default_factory=Model)
    classes: Classes = BINARY


class Meeting(Scorer):
    """Waits until three parts are in it."""

    def __call__(self, part: TokenizedPart) -> PartResult:
        _of_this_process("meeting", lambda: threading.Barrier(3)).wait(timeout=30)
        return PartResult(part.task.name, PartCounts())


class Deadly(Scorer):
    """Ends its process for one part, when others that may be beside it have begun."""

    def __call__(self, part: TokenizedPart) -> PartResult:
        work = _of_this_process("work", threading.Event)
        if part.task.name == DEADLY:
            work.wait(timeout=2)
            os._exit(1)
        work.set()
        # Long enough to be there when the deadly one ends the process, if it may be.
        threading.Event().wait(0.5)
        return PartResult(part.task.name, PartCounts())


_things: dict[str, Any] = {}
_making = threading.Lock()


def _of_this_process(name: str, make: Any) -> Any:
    """Something that the threads of a process share."""
    with _making:
        return _things.setdefault(name, make())


def scored(scorer: Scorer, output: Path) -> list[PartResult]:
    """What the executor makes of parts, with one actor on the GPU."""
    from pipelines.scoring.ray_executor import RayExecutor

    config = ScoreConfig(checkpoints_dir="", input=(), output="", use_gpu=True)
    worker = PartWorker(ReadStep([read], lambda task: None, 3), ScoreStep(scorer, 1))
    shard = Shard("/a.csv", 1, 1)
    tasks = [PartTask(f"part-{k:06}", ((shard, Span(0, 1)),)) for k in range(PARTS)]
    executor = RayExecutor(config, [], str(output))
    try:
        return sorted(executor.score(tasks, PARTS, worker, print), key=lambda result: result.name)
    finally:
        executor.close()


def test_three_parts_are_in_an_actor_at_the_same_time(ray_with_gpu, tmp_path):
    results = scored(Meeting(), tmp_path)
    assert [(result.name, result.error) for result in results] == [
        (f"part-{k:06}", "") for k in range(PARTS)
    ]


def test_a_part_that_ends_its_process_takes_no_attempts_from_others(ray_with_gpu, tmp_path):
    failed = {result.name: result.error for result in scored(Deadly(), tmp_path) if result.error}
    assert list(failed) == [DEADLY]
    assert "the process died each time that it worked on this part (attempts: 3)" in failed[DEADLY]
