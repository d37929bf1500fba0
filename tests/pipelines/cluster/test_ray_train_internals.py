"""What training takes of Ray Train's private parts is still there; a failure names what moved."""

import inspect
import os
import re
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import ray
from ray.train.v2._internal.execution.storage import StorageContext
from ray.train.v2._internal.execution.worker_group import worker_group
from ray.train.v2._internal.execution.worker_group.worker import ActorMetadata

from pipelines.cluster import ray_train_internals
from pipelines.cluster.ray_train_internals import (
    CHECKPOINT_NAME,
    SNAPSHOT,
    WorkerHealthCheckTimeoutError,
    node_address,
    node_died,
    ran_out_of_memory,
    silent_seconds,
    timing,
)


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        ("CHECKPOINT_MANAGER_SNAPSHOT_FILENAME", SNAPSHOT),
        ("VALIDATE_STORAGE_MARKER_FILENAME", ".validate_storage_marker"),
        ("WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR", ray_train_internals._HEALTH_CHECK_TIMEOUT),
        ("HEALTH_CHECK_INTERVAL_S_ENV_VAR", ray_train_internals._HEALTH_CHECK_INTERVAL),
        ("WORKER_GROUP_START_TIMEOUT_S_ENV_VAR", ray_train_internals._START_TIMEOUT),
    ],
)
def test_names_of_files_and_variables(constant, expected):
    constants = import_module("ray.train.v2._internal.constants")
    assert getattr(constants, constant, None) == expected, f"Ray Train has another {constant}"


def test_timing_is_set_for_a_block_unless_the_user_has_set_it(monkeypatch):
    names = ("_HEALTH_CHECK_TIMEOUT", "_HEALTH_CHECK_INTERVAL", "_START_TIMEOUT")
    silent, check, start = (getattr(ray_train_internals, name) for name in names)
    monkeypatch.setenv(silent, "7")
    for name in (check, start):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with timing(60, 0.2, 10):
        assert [os.environ[name] for name in (silent, check, start)] == ["7", "0.2", "10"]
    assert os.environ == before
    with timing(60, 0.2, None):
        assert start not in os.environ


def test_names_of_checkpoints():
    name = StorageContext.make_default_checkpoint_dir_name()
    assert CHECKPOINT_NAME.fullmatch(name), f"Ray Train now names checkpoints like {name}"


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [
        ("ray.train.backend", "Backend.on_start", {"worker_group", "backend_config"}),
        (
            "ray.train.v2._internal.execution.worker_group.worker_group",
            "WorkerGroup.execute",
            {"fn", "fn_args"},
        ),
        (
            "ray.train.v2._internal.execution.worker_group.worker_group",
            "WorkerGroup.execute_single_async",
            {"rank", "fn", "fn_args"},
        ),
        (
            "ray.train.v2.api.data_parallel_trainer",
            "DataParallelTrainer.__init__",
            {"train_loop_per_worker", "train_loop_config", "backend_config", "scaling_config"},
        ),
    ],
)
def test_calls_and_their_parameters(module, name, parameters):
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
        assert found is not None, f"Ray has no {module}.{name} any more"
    lacking = parameters - set(signature(found).parameters)
    assert not lacking, f"{module}.{name} of Ray has no parameter {lacking} any more"


@pytest.mark.parametrize(
    ("recognises", "text", "program"),
    [
        (ran_out_of_memory, "low on memory", "raylet/raylet"),
        (node_died, "node has died", "gcs/gcs_server"),
    ],
)
def test_texts_of_rays_programs(recognises, text, program):
    assert recognises(f"The actor died because its {text}.")
    content = (Path(ray.__file__).parent / "core/src/ray" / program).read_bytes()
    assert (text.encode() in content) is True, f"Ray's {program} no longer says {text!r}"


def test_texts_of_ray_train():
    metadata = ActorMetadata("host", "0a1b", "10.0.0.3", 7, {})
    assert node_address(repr(metadata)) == "10.0.0.3", f"Ray Train shows a node as {metadata!r}"
    module = inspect.getsource(worker_group)
    said = re.search(r"A worker health check has been hanging for [^\"]*", module)
    assert said, "Ray Train has other words for a worker that does not answer"
    filled = said[0].replace("{elapsed_time_s:.2f}", "60.42")
    assert silent_seconds(WorkerHealthCheckTimeoutError(filled)) == 60.42, filled
