"""A training run and its evaluation in MLflow, which may be away; see also test_train."""

import json
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest

from pipelines.console import extras
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.job import evaluate
from pipelines.tracking import MODEL_TAG
from pipelines.training import mlflow_feed as feeds
from pipelines.training.config import TrainConfig
from pipelines.training.mlflow_feed import RUN_TAG, mlflow_feed
from pipelines.training.run_directory import CHANGING_FLAGS
from sentiment.errors import InputError
from testing.evaluation_results import save_trained
from testing.generated import write_shards
from testing.waiting import wait_until


def config(tmp_path: Path, **flags: object) -> TrainConfig:
    logs = str(tmp_path / "logs")
    usual = {"summaries_dir": logs, "labels": ("a=1", "b=2"), "mlflow_experiment": "tweets"}
    return TrainConfig(**usual | flags)


def write_metrics(tmp_path: Path, first: int, last: int) -> None:
    """Steps, and a validation after the last one."""
    path = tmp_path / "logs" / "run" / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"step": step, "loss": 1 / step} for step in range(first, last + 1)]
    lines.append({"step": last, "validation_loss": 0.5, "validation_macro_f1": last / 100})
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def steps(store, run, metric: str) -> list[int]:
    return [point.step for point in store.client.get_metric_history(run.info.run_id, metric)]


def test_metrics_arrive_while_a_run_goes_on_and_each_once(tmp_path, mlflow_store, monkeypatch):
    monkeypatch.setattr(feeds, "POLL_SECONDS", 0.1)
    runs = str(tmp_path / "_runs")
    with suppress(KeyboardInterrupt), mlflow_feed(config(tmp_path), "run", runs):
        write_metrics(tmp_path, 1, 1500)
        (run,) = mlflow_store.runs("tweets")
        wait_until(lambda: steps(mlflow_store, run, "validation/macro_f1"), 10, "a validation")
        raise KeyboardInterrupt
    (run,) = mlflow_store.runs("tweets")
    assert (run.info.run_name, run.info.status) == ("run", "KILLED")
    assert run.data.params["labels"] == "['a=1', 'b=2']"
    assert run.data.params["hidden_size"] == "75"
    assert run.data.metrics["train/loss"] == 1 / 1500

    # It is resumed at step 1400.
    (tmp_path / "_runs" / "run" / "checkpoint").mkdir(parents=True)
    with mlflow_feed(config(tmp_path), "run", runs):
        write_metrics(tmp_path, 1401, 1600)
    (run,) = mlflow_store.runs("tweets")
    assert run.info.status == "FINISHED"
    assert steps(mlflow_store, run, "train/loss") == list(range(1, 1601))
    assert steps(mlflow_store, run, "validation/loss") == [1500, 1600]

    # A new run of that name is another one.
    (tmp_path / "_runs" / "run" / "checkpoint").rmdir()
    with pytest.raises(ZeroDivisionError), mlflow_feed(config(tmp_path), "run", runs):
        raise ZeroDivisionError
    assert sorted(run.info.status for run in mlflow_store.runs("tweets")) == ["FAILED", "FINISHED"]


def test_flags_that_changed_when_a_run_went_on_are_its_tags(tmp_path, mlflow_store):
    runs = str(tmp_path / "_runs")
    starts = [
        {"train_steps": 200, "early_stopping": 3},
        {"train_steps": 260, "num_workers": 2},
        {"train_steps": 260},
    ]
    for flags in starts:
        with mlflow_feed(config(tmp_path, **flags), "run", runs):
            pass
        (tmp_path / "_runs" / "run" / "checkpoint").mkdir(parents=True, exist_ok=True)
        (run,) = mlflow_store.runs("tweets")
        assert (run.data.params["train_steps"], run.data.params["early_stopping"]) == ("200", "3")
        tags = {tag: run.data.tags.get(f"sentiment.{tag}") for tag in ("train_steps", *flags)}
        given = {flag: str(value) for flag, value in flags.items()}
        assert tags == (given if flags is not starts[0] else dict.fromkeys(flags))
    tags = {name for name in run.data.tags if name.startswith("sentiment.")}
    assert tags == {RUN_TAG, *(f"sentiment.{flag}" for flag in CHANGING_FLAGS)}
    assert run.data.tags["sentiment.early_stopping"] == "None"
    assert run.data.tags["sentiment.num_workers"] == str(config(tmp_path).num_workers)


def test_a_run_that_goes_on_and_is_new_to_mlflow_has_its_flags_there(tmp_path, mlflow_store):
    (tmp_path / "_runs" / "run" / "checkpoint").mkdir(parents=True)
    with mlflow_feed(config(tmp_path), "run", str(tmp_path / "_runs")):
        pass
    (run,) = mlflow_store.runs("tweets")
    assert run.data.params["hidden_size"] == "75"


def test_evaluation_goes_to_the_models_run(tmp_path, mlflow_store, capsys):
    write_shards(tmp_path / "corpus", rows=200, shards=2)
    model = save_trained(str(tmp_path / "model"), tmp_path / "corpus")
    with mlflow_feed(config(tmp_path), "run", str(tmp_path / "_runs")) as feed:
        feed.finish(model, {})
    flags = (str(tmp_path / "model"),)
    evaluate(EvaluateConfig(flags, mlflow_experiment="tweets"))
    (run,) = mlflow_store.runs("tweets")
    assert run.data.tags[MODEL_TAG] == model.model_hash
    shown = f"{run.data.metrics['test/accuracy']:.1%}"
    assert f" {shown} " in capsys.readouterr().out
    files = mlflow_store.files(run, "evaluation")
    assert files["README.md"] == (tmp_path / "model" / "README.md").read_bytes()
    assert files["report.html"] == (tmp_path / "model" / "report.html").read_bytes()
    with pytest.raises(InputError, match="for one checkpoint"):
        EvaluateConfig(("a", "b"), mlflow_experiment="tweets")


def test_a_server_that_is_away_costs_two_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with mlflow_feed(config(tmp_path), "run", str(tmp_path / "_runs")):
        write_metrics(tmp_path, 1, 10)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("MLflow does not take what this run sends, which goes on: API request")
    assert last == "MLflow: it has nothing of this run"


def test_a_server_that_goes_away_and_comes_back_has_all_metrics(
    tmp_path, mlflow_store, monkeypatch, capsys
):
    with mlflow_feed(config(tmp_path), "run", str(tmp_path / "_runs")) as feed:
        with monkeypatch.context() as away:
            away.setattr(mlflow.MlflowClient, "log_batch", lambda *_, **__: 1 / 0)
            write_metrics(tmp_path, 1, 10)
            feed._send()
        write_metrics(tmp_path, 11, 20)
    (run,) = mlflow_store.runs("tweets")
    assert steps(mlflow_store, run, "train/loss") == list(range(1, 21))
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("which goes on: division by zero")
    assert last == "MLflow: 1 call failed; its run may lack metrics or files"


def test_settings_that_cannot_be_used_are_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://a")
    feed = mlflow_feed(config(tmp_path), "run", str(tmp_path / "_runs"))
    with pytest.raises(InputError, match=r"MLflow cannot use gopher://a .*MLFLOW_TRACKING_URI"):
        feed.__enter__()
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    feed = mlflow_feed(config(tmp_path), "run", str(tmp_path / "_runs"))
    with pytest.raises(InputError, match=r"pip install 'sentiment-pipelines\[mlflow\]'"):
        feed.__enter__()
