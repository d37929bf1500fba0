"""Worker trouble, as Ray Train reports it, in one line."""

import pickle

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
)
from ray.train import ControllerError

from pipelines.cluster.ray_train_internals import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from pipelines.training.failures import (
    FailureWatch,
    TensorFlowError,
    fit_with_retries,
    reason,
    reason_of_ray,
    tensorflow_errors_as_text,
)
from pipelines.training.messages import Retrying
from sentiment.errors import InputError

WORKER = """A worker health check failed.
Worker info: Worker(
  actor=Actor(RayTrainWorker, d9e81c070741ed9ddca213ca01000000),
  metadata=ActorMetadata(
    hostname='vm',
    node_id='8385f762d3a469956a0d95d82e55c7b3e2afddab3d52ce7d6866a80d',
    node_ip='10.0.0.3',
    pid=18832,
  ),
)"""

KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: RayTrainWorker
\tip: 10.0.0.3
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes \
include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop \
--force was called, or (3) the worker crashed unexpectedly due to SIGSEGV."""

LOST = """The actor died unexpectedly before finishing this task.
The actor died because its node has died. Node Id: 8385f762d3a469956a0d95d82e55c7b3e2afddab3d52c
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many."""

COLLECTIVE = """Graph execution error:

Detected at node rm_sprop/cond/CollectiveGatherV2_1 defined at (most recent call last):
  File "/usr/lib/python3.11/threading.py", line 1002, in _bootstrap

  File "/app/pipelines/train_loop.py", line 205, in step

Collective ops is aborted by: recvmsg:Connection reset by peer
The error could be from a previous operation. Restart your program to reset.
\t [[{{node rm_sprop/cond/CollectiveGatherV2_1}}]] [Op:__inference_step_everywhere_1561]"""

MEMORY = COLLECTIVE.replace("Collective ops is aborted by: recvmsg", "OOM when allocating")


def failed(cause: Exception) -> WorkerHealthCheckFailedError:
    return WorkerHealthCheckFailedError(WORKER, cause)


def actor(message: str) -> RayActorError:
    error = ActorDiedError()
    error.error_msg = message
    return error


SILENT = f"A worker health check has been hanging for 60.42 seconds. Marking it as dead.\n{WORKER}"


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({1: failed(actor(KILLED))}, "worker 1 died (node 10.0.0.3)"),
        ({1: failed(actor(LOST))}, "worker 1 was lost with node 10.0.0.3"),
        (
            {0: failed(actor(LOST)), 3: failed(actor(LOST))},
            "worker 0 was lost with node 10.0.0.3, and 1 more",
        ),
        (
            {0: failed(OutOfMemoryError("low"))},
            "worker 0 was killed: node 10.0.0.3 ran out of memory",
        ),
        (
            {0: failed(actor("Task was killed due to the node running low on memory."))},
            "worker 0 was killed: node 10.0.0.3 ran out of memory",
        ),
        ({0: failed(ActorUnavailableError("reset", None))}, "worker 0 died (node 10.0.0.3)"),
        (
            {2: WorkerHealthCheckTimeoutError(SILENT)},
            "worker 2 has not answered for 60 s (node 10.0.0.3)",
        ),
        (
            {0: TensorFlowError("UnavailableError", COLLECTIVE)},
            "worker 0 lost the connection to the others",
        ),
        # The cause is told, not what followed from it, whatever the ranks.
        (
            {0: RuntimeError(COLLECTIVE), 1: failed(actor(KILLED)), 2: RuntimeError(COLLECTIVE)},
            "worker 1 died (node 10.0.0.3)",
        ),
        ({0: RuntimeError(COLLECTIVE), 1: ValueError("bad")}, "worker 1 failed: ValueError: bad"),
        (
            {1: TensorFlowError("ResourceExhaustedError", MEMORY)},
            "worker 1 failed: ResourceExhaustedError: OOM when allocating:Connection reset by peer",
        ),
        (
            {0: InputError("a.jsonl, line 3 is damaged")},
            "worker 0 failed: a.jsonl, line 3 is damaged",
        ),
        (
            {0: OSError(28, "No space left on device")},
            "worker 0 failed: OSError: [Errno 28] No space left on device",
        ),
        ({0: AssertionError()}, "worker 0 failed: AssertionError"),
        ({0: failed(TypeError("cannot pickle"))}, "worker 0 failed: TypeError: cannot pickle"),
    ],
)
def test_what_befell_workers_is_said_in_one_line(failures, said):
    assert reason(failures) == said


def test_an_error_of_tensorflow_is_read_where_tensorflow_is_not_loaded():
    import tensorflow as tf

    with pytest.raises(TensorFlowError) as caught, tensorflow_errors_as_text():
        tf.matmul(tf.zeros([2, 3]), tf.zeros([2, 3]))
    content = pickle.dumps(caught.value)
    assert b"tensorflow." not in content
    read = pickle.loads(content)
    assert (read.kind, str(read)) == ("InvalidArgumentError", str(caught.value))
    with pytest.raises(KeyError), tensorflow_errors_as_text():
        raise KeyError


def test_each_failure_but_the_last_is_told_with_the_step_to_go_on_from():
    told = []

    class Messages:
        put = told.append

    watch = FailureWatch(Messages, max_failures=2)
    watch.after_exception(None, {1: failed(actor(KILLED))})
    watch.after_report(None, [{"step": 50}, {"step": 50}], None)
    watch.after_exception(None, {1: failed(actor(KILLED))})
    watch.after_exception(None, {1: failed(actor(KILLED))})
    why = "worker 1 died (node 10.0.0.3)"
    assert told == [Retrying(why, None, 2, 3), Retrying(why, 50, 3, 3)]


@pytest.mark.parametrize(
    ("failure", "tries"), [(ActorUnavailableError("gone", b"1" * 16), 3), (OSError(28, "full"), 1)]
)
def test_training_begins_again_where_ray_train_gives_up_at_its_start(failure, tries):
    told = []

    class Messages:
        put = told.append

    attempts = iter(range(1, 4))

    def fit() -> int:
        if next(attempts) < 3:
            raise ControllerError(failure)
        return 7

    if tries == 1:
        with pytest.raises(ControllerError):
            fit_with_retries(fit, Messages, max_failures=2)
    else:
        assert fit_with_retries(fit, Messages, max_failures=2) == 7
    assert [message.attempt for message in told] == list(range(2, tries + 1))
    assert next(attempts, 4) == tries + 1


def test_errors_arrive_as_they_were_sent():
    """What is recognised must survive the way from the controller to the driver."""
    error = pickle.loads(pickle.dumps(failed(actor(LOST))))
    assert reason({0: error}) == "worker 0 was lost with node 10.0.0.3"


def test_why_ray_failed_is_one_plain_line():
    text = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::X()\x1b[39m\n"
        '  File "a.py", line 1, in __init__\nFileNotFoundError: /runs/a is gone\n'
    )
    assert reason_of_ray(RayError(text)) == "FileNotFoundError: /runs/a is gone"
    assert reason_of_ray(RayError("\x1b[36mThe head\x1b[39m is lost\nmore")) == "The head is lost"
