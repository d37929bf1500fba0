"""Runs in MLflow: flags, metrics and files of a program that goes on if MLflow does not answer.

MLflow's own variables say where it is: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, ...
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.console.extras import require_module
from pipelines.console.terminal import printable, quantity, warn
from sentiment.errors import InputError, on_one_line

MAX_METRICS, MAX_PARAMS = 1000, 100
"""What MLflow takes in one request."""

MAX_PARAM_CHARACTERS = 6000

MODEL_TAG = "sentiment.model_hash"
"""Tag of a run: the hash of the model that it trained."""

_SETTINGS = {
    # By itself MLflow would try for some four minutes, and tell its makers of each use.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Settings of MLflow, where the environment does not say otherwise."""


@dataclass(frozen=True)
class Point:
    """A value of a metric after a step."""

    name: str
    value: float
    step: int = 0


class MlflowRun:
    """A run in an experiment of MLflow.

    What MLflow's server does is never raised: the first error is printed, later ones are counted,
    and `close` says how many.

    Raises InputError if MLflow is not installed, or its settings cannot be used.
    """

    def __init__(
        self, experiment: str, name: str, tags: Mapping[str, str], continues: bool
    ) -> None:
        """Find the run, or create it.

        Args:
            experiment: its name; it is created if it does not exist.
            name: of the run.
            tags: what the run is known by.
            continues: take the newest run with these tags, if there is one, instead of a new one.
        """
        require_module("mlflow")
        self._changed = _SETTINGS.keys() - os.environ.keys()
        os.environ.update({setting: _SETTINGS[setting] for setting in self._changed})
        import mlflow

        try:
            self._client = mlflow.MlflowClient()
        except Exception as error:
            self._restore_settings()
            uri = mlflow.get_tracking_uri()
            raise InputError(
                f"--mlflow_experiment: MLflow cannot use {uri} ({on_one_line(error):.200}): "
                "set MLFLOW_TRACKING_URI to a server, such as http://HOST:5000"
            ) from error
        self.lost = 0
        """Calls that failed."""
        self.is_new = True
        """Whether it was created, and not found."""
        self._id = ""
        self._call(lambda: self._open(experiment, name, tags, continues))

    def flags(self, flags: Mapping[str, object]) -> None:
        """Set the run's parameters. Those that are None are left out."""
        from mlflow.entities import Param

        given = {name: value for name, value in flags.items() if value is not None}
        params = [Param(name, str(value)[:MAX_PARAM_CHARACTERS]) for name, value in given.items()]
        for first in range(0, len(params), MAX_PARAMS):
            batch = params[first : first + MAX_PARAMS]
            self._with_run(partial(self._client.log_batch, params=batch))

    def metrics(self, points: Iterable[Point]) -> bool:
        """Add values of metrics; whether MLflow has all of them."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(point.name, point.value, now, point.step) for point in points]
        batches = (
            metrics[first : first + MAX_METRICS] for first in range(0, len(metrics), MAX_METRICS)
        )
        return all(
            self._with_run(partial(self._client.log_batch, metrics=batch)) for batch in batches
        )

    def last_step(self, metric: str) -> int:
        """The last step for which MLflow has the metric; -1: none, or it does not answer."""
        steps: list[int] = []
        self._with_run(
            lambda run: steps.extend(
                each.step for each in self._client.get_metric_history(run, metric)
            )
        )
        return max(steps, default=-1)

    def tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self._with_run(lambda run: self._client.set_tag(run, name, value))

    def files(self, directory: str, contents: Mapping[str, bytes]) -> None:
        """Add files, by name, as artifacts below a directory."""
        with tempfile.TemporaryDirectory() as local:
            for name, content in contents.items():
                Path(local, name).write_bytes(content)
            self._with_run(lambda run: self._client.log_artifacts(run, local, directory or None))

    def close(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED. Say what was lost."""
        self._with_run(lambda run: self._client.set_terminated(run, status))
        if not self._id:
            warn("MLflow: it has nothing of this run")
        elif self.lost:
            warn(f"MLflow: {quantity(self.lost, 'call')} failed; its run may lack metrics or files")
        self._restore_settings()

    def _restore_settings(self) -> None:
        # This process may be another program's.
        for setting in self._changed:
            os.environ.pop(setting, None)

    def _open(self, name: str, run_name: str, tags: Mapping[str, str], continues: bool) -> None:
        client = self._client
        experiment = client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else client.create_experiment(name)
        conditions = [f"tags.`{tag}` = '{value}'" for tag, value in tags.items()]
        found = continues and client.search_runs([number], " AND ".join(conditions), max_results=1)
        if found:
            run = found[0].info.run_id
            self.is_new = False
            client.update_run(run, "RUNNING")
        else:
            run = client.create_run(number, tags=dict(tags), run_name=run_name).info.run_id
        self._id = run

    def _with_run(self, call: Callable[[str], object]) -> bool:
        """Call with the run's id; whether that succeeded."""
        return bool(self._id) and self._call(lambda: call(self._id))

    def _call(self, call: Callable[[], object]) -> bool:
        try:
            call()
            return True
        except Exception as error:
            self.lost += 1
            if self.lost == 1:
                message = printable(f"{on_one_line(error):.200}")
                warn(f"MLflow does not take what this run sends, which goes on: {message}")
            return False
