"""A function in tasks of Ray, one for each item."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from pipelines.errors import Failure
from sentiment.errors import on_one_line

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_TASKS_IN_FLIGHT = 1000
"""Tasks that are handed to Ray at the same time."""


def map_in_tasks(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[int, Result]]:
    """Call `function`, which pickles, for each item; yield (index, result) as they come.

    Ray retries a task whose process or node dies, three times. Raises what the function raises, and
    Failure if Ray gives up.
    """
    # In the object store, where it may be of any size. Ray makes tasks of functions only, not of
    # what else can be called, such as a `partial`.
    stored = ray.put(function)
    task: Any = ray.remote(_call)
    waiting = iter(enumerate(items))
    running: dict[Any, int] = {}
    try:
        while True:
            for index, item in islice(waiting, MAX_TASKS_IN_FLIGHT - len(running)):
                running[task.remote(stored, item)] = index
            if not running:
                return
            done, _ = ray.wait(list(running))
            for ref in done:
                yield running.pop(ref), ray.get(ref)
    except RayTaskError as error:
        raise error.cause or error from None
    except RayError as error:
        raise gave_up(error) from error
    finally:
        for ref in running:
            ray.cancel(ref, force=True)


def map_in_order(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """What `map_in_tasks` does, with the results in the order of the items."""
    early: dict[int, Result] = {}
    following = 0
    for index, result in map_in_tasks(function, items):
        early[index] = result
        while following in early:
            yield early.pop(following)
            following += 1


def gave_up(error: RayError) -> Failure:
    """The error to raise where Ray gives up."""
    message = on_one_line(str(error).partition("\n")[0])
    return Failure(f"Ray gave up ({message}): run the same command again")


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
