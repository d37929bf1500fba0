"""What MLflow has of the runs of an experiment."""

from pathlib import Path

import mlflow
from mlflow.entities import Run


class MlflowStore:
    """Reads where MLFLOW_TRACKING_URI says."""

    def __init__(self) -> None:
        self.client = mlflow.MlflowClient()

    def runs(self, experiment: str) -> list[Run]:
        """The runs, the newest first."""
        found = self.client.get_experiment_by_name(experiment)
        return list(self.client.search_runs([found.experiment_id]))

    def files(self, run: Run, directory: str) -> dict[str, bytes]:
        """The artifacts below a directory, by name."""
        local = Path(self.client.download_artifacts(run.info.run_id, directory))
        return {path.name: path.read_bytes() for path in local.iterdir()}
