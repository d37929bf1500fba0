"""How parts become tasks of Ray, and how often a part may end its process."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.scoring.part_data import PartTask
from pipelines.scoring.ray_executor import MAX_READ_TASKS, SMALL_TASK_ROWS, _in_groups
from pipelines.sources.rows import Span
from pipelines.sources.shard import Shard


def parts(rows: list[int]) -> list[PartTask]:
    shard = Shard("/a.csv", 1, 1)
    return [
        PartTask(f"part-{number:06}", ((shard, Span(0, each)),)) for number, each in enumerate(rows)
    ]


@given(st.lists(st.integers(1, 3 * SMALL_TASK_ROWS), min_size=1), st.integers(1, 4))
def test_every_part_is_in_one_task_and_a_large_one_ends_its_task(rows, actors):
    tasks = parts(rows)
    groups = list(_in_groups(tasks, len(tasks), actors))
    assert [task for group in groups for task in group] == [task.to_json() for task in tasks]
    for group in groups:
        before_last = [PartTask.from_json(task).rows for task in group[:-1]]
        assert sum(before_last) < SMALL_TASK_ROWS


@pytest.mark.parametrize(
    ("number", "rows", "actors", "tasks"),
    [
        (88, 100_000, 2, 88),
        (88, 100, 2, 44),  # Several for each actor, to the end.
        (31, 1, 2, 31),
        (5_000, 1, 2, 100),
        (5_000, 1, 5_000, 5_000),  # A cluster that may grow to any size.
        (2 * MAX_READ_TASKS, 100_000, 100, MAX_READ_TASKS),
    ],
)
def test_small_parts_share_a_task_where_all_actors_have_enough(number, rows, actors, tasks):
    assert len(list(_in_groups(parts([rows] * number), number, actors))) == tasks


@pytest.mark.parametrize(("number", "max_attempts"), [(1, 1), (1, 3), (3, 1), (3, 3)])
def test_a_part_that_ends_its_process_has_so_many_attempts(number, max_attempts, local_ray):
    """And parts that come after it in its task are still tried."""
    from pipelines.scoring.ray_steps import Attempts, begun

    attempts, tasks = Attempts(uuid.uuid4().hex, max_attempts), parts([1] * number)
    contents = [task.to_json() for task in tasks]
    tried = []
    for _ in range(max_attempts + 1):
        for task, failure in begun(contents, attempts):
            if not failure:
                tried.append(task.name)
            if task == tasks[0] and not failure:
                break  # The process ends.
            assert not failure or "attempts: " + str(max_attempts) in failure.error
    assert tried == ["part-000000"] * max_attempts + [task.name for task in tasks[1:]]
