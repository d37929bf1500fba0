"""What training takes of Ray Train's private parts is still there; a failure names what moved."""

from importlib import import_module
from inspect import signature

import pytest
from ray.train.v2._internal.execution.storage import StorageContext

from pipelines.cluster import ray_train_internals
from pipelines.cluster.ray_train_internals import CHECKPOINT_NAME, SNAPSHOT


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        ("CHECKPOINT_MANAGER_SNAPSHOT_FILENAME", SNAPSHOT),
        ("VALIDATE_STORAGE_MARKER_FILENAME", ".validate_storage_marker"),
        ("WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR", ray_train_internals._HEALTH_CHECK_TIMEOUT),
        ("HEALTH_CHECK_INTERVAL_S_ENV_VAR", ray_train_internals._HEALTH_CHECK_INTERVAL),
    ],
)
def test_names_of_files_and_variables(constant, expected):
    constants = import_module("ray.train.v2._internal.constants")
    assert getattr(constants, constant, None) == expected, f"Ray Train has another {constant}"


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
