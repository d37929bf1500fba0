"""What the pipelines take of Ray's private parts is still there; a failure names what moved."""

import subprocess
import sys

import pytest
import ray.data
from ray._private import auto_init_hook, worker

from pipelines.cluster import ray_internals
from pipelines.cluster.datasets import rows_of


@pytest.mark.parametrize(
    ("module", "name"),
    [(auto_init_hook, "enable_auto_connect"), (worker, "_worker_logs_enabled")],
)
def test_switches_of_ray(module, name):
    assert type(getattr(module, name, None)) is bool, f"Ray has no switch {module.__name__}.{name}"


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("enable_progress_bars", bool),
        ("print_on_execution_start", bool),
        ("shuffle_input_batch_bytes", int | None),
        ("custom_execution_callback_classes", list),
    ],
)
def test_options_of_ray_data(option, kind):
    context = ray.data.DataContext()
    assert hasattr(context, option), f"DataContext of Ray Data has no {option}"
    assert isinstance(getattr(context, option), kind), f"DataContext.{option} is no {kind}"


def test_bundles_of_ray_data():
    assert hasattr(ray.data.Dataset, "iter_internal_ref_bundles"), (
        "Dataset of Ray Data has no iter_internal_ref_bundles"
    )


def test_rows_of_a_dataset(local_ray):
    dataset = ray.data.range(10, override_num_blocks=3)
    assert sorted(row["id"] for row in rows_of(dataset)) == list(range(10))


def test_how_far_a_dataset_is(local_ray):
    seen = []
    watchers = [ray_internals.ExecutionWatcher]
    with ray_internals.data_options(custom_execution_callback_classes=watchers):
        blocks = ray.data.range(6, override_num_blocks=3).materialize()
    with ray_internals.watched(lambda *done: seen.append(done)):
        list(rows_of(blocks.map_batches(lambda table: table[:1], batch_format="pyarrow")))
    assert seen == sorted(seen)
    assert seen[-1] == (3, 3), "Ray Data's executor tells other numbers, or none"


def test_an_option_that_ray_data_lacks_is_an_error():
    with (
        pytest.raises(AttributeError, match="has no enable_progress_bar in"),
        ray_internals.data_options(enable_progress_bar=False),
    ):
        pass


@pytest.mark.process
def test_what_asks_ray_for_something_outside_a_session_starts_none():
    code = (
        "import ray\n"
        "from pipelines.cluster import ray_internals\n"
        "ray_internals.forbid_auto_connect()\n"
        "ray.put('something')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Ray has not been started yet" in done.stderr
