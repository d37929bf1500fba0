"""Jobs that another program calls: what they return and raise, and what they leave as it was."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import sentiment
from pipelines import evaluate, export, score, train
from pipelines.errors import Failure, Unavailable
from pipelines.evaluation.config import EvaluateConfig
from pipelines.export import ExportConfig
from pipelines.scoring.config import ScoreConfig
from pipelines.training.config import TrainConfig
from sentiment.errors import InputError
from testing.generated import save_checkpoint, vouch, write_shards


def config(root: Path, **flags: object) -> ScoreConfig:
    return ScoreConfig(
        checkpoints_dir=str(root / "model"),
        input=(str(root / "corpus"),),
        output=str(root / "scored"),
        text_column="SentimentText",
        keep_columns=("id",),
        **flags,
    )


@pytest.fixture
def root(tmp_path):
    """A model, and a shard of one part, which needs no Ray."""
    save_checkpoint(tmp_path / "model")
    table = write_shards(tmp_path / "csv", rows=20, shards=1)
    (tmp_path / "corpus").mkdir()
    pq.write_table(table, tmp_path / "corpus" / "texts.parquet")
    return tmp_path


def test_scoring_tells_what_the_output_holds(root, capsys):
    assert score.run(config(root, dry_run=True, quiet=True)).rows == 0
    first = score.run(config(root, quiet=True))
    assert (first.output, first.rows, first.rejected) == (str(root / "scored"), 20, 0)
    assert first.new_rows == sum(first.labels.values()) == 20
    assert [*first.labels] == ["negative", "positive"]
    (root / "corpus" / "more.csv").write_text("id,Sentiment,SentimentText\n20,1,!!!\n21,1\n")
    second = score.run(config(root, quiet=True, max_rejected="1"))
    assert (second.rows, second.rejected, second.new_rows) == (21, 1, 1)
    assert (first.wordless, second.wordless) == (0, 1)
    assert any("'id' is" in warning for warning in second.warnings)
    third = score.run(config(root, quiet=True))
    assert (third.rows, third.new_rows, third.labels) == (21, 0, second.labels)
    assert capsys.readouterr() == ("", "")
    score.run(config(root))
    assert "Nothing to do" in capsys.readouterr().out


def test_a_mistake_and_a_failure_are_raised(root, tmp_path):
    with pytest.raises(InputError, match="is not a checkpoint"):
        score.run(config(tmp_path / "nowhere"))
    (root / "corpus" / "bad.csv").write_text("id,Sentiment,SentimentText\n20\n")
    with pytest.raises(Failure, match="rejected, more than --max_rejected 1%"):
        score.run(config(root, quiet=True))
    with pytest.raises(InputError, match=r"input is 'corpus'; give a tuple: \('corpus',\)"):
        score.run(ScoreConfig(checkpoints_dir="model", input="corpus", output="scored"))


@pytest.mark.parametrize(
    "use",
    [
        lambda root: sentiment.load(str(root / "model")),
        lambda root: score.run(config(root)),
        lambda root: score.run(config(root, use_gpu=True)),
        lambda root: evaluate.run(EvaluateConfig((str(root / "model"),), str(root / "corpus"))),
        lambda root: export.main(ExportConfig(str(root / "model"), str(root / "exported"))),
        lambda root: train.run(
            TrainConfig(data_dir=str(root / "corpus"), initial_checkpoint=str(root / "model"))
        ),
    ],
    ids=["load", "score", "score --use_gpu", "evaluate", "export", "train --initial_checkpoint"],
)
def test_a_model_with_an_option_of_a_later_version_is_refused(root, use):
    model = root / "model" / "model.json"
    model.write_text(json.dumps(json.loads(model.read_text()) | {"pooling": "max"}))
    vouch(root / "model")
    with pytest.raises(InputError, match="'pooling', which this version does not know: update"):
        use(root)


class Wrapped(RuntimeError):
    """As Ray's: carries what a task raised."""

    cause = Unavailable("the disk is gone")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Wrapped("Traceback ..."), Unavailable, "the disk is gone: run the same command again"),
        (OSError("no space left"), Failure, "no space left: run the same command again"),
        (ModuleNotFoundError(name="keras"), InputError, r"pip install .*\[train\]"),
        (ZeroDivisionError("a bug"), ZeroDivisionError, "a bug"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
def test_what_a_program_would_print_is_raised(root, monkeypatch, error, kind, said):
    def main(config):
        raise error

    monkeypatch.setattr("pipelines.scoring.job.main", main)
    with pytest.raises(kind, match=said):
        score.run(config(root))


def test_a_preset_is_not_only_named(tmp_path):
    with pytest.raises(InputError, match=r"make the config with TrainConfig.of\(preset='best'"):
        train.run(TrainConfig(preset="best"))
    best = TrainConfig.of("best", hidden_size=5)
    assert (best.preset, best.hidden_size, best.bidirectional) == (None, 5, True)
    assert TrainConfig.of("best", train_steps=5).epochs is None
    (tmp_path / "mine.yaml").write_text("bigrams: 7")
    assert TrainConfig.of(config=str(tmp_path / "mine.yaml")).bigrams == 7
    with pytest.raises(TypeError, match="hidden_sise"):
        TrainConfig.of(hidden_sise=5)
    with pytest.raises(InputError, match="does not exist"):
        train.run(TrainConfig.of("best", data_dir=str(tmp_path / "nowhere")))


CALLER = """
import logging, os, signal, subprocess, sys, threading, time
import ray
import ray.data
from ray._private import auto_init_hook
from pipelines import score
from pipelines.scoring.config import ScoreConfig

def state():
    return (
        sys.stdout, sys.stderr, os.fstat(1), os.fstat(2), sys.unraisablehook,
        signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM),
    )

def settings():
    data = ray.data.DataContext.get_current()
    levels = [logging.getLogger(name).level for name in ("ray", "ray.data", "ray.train")]
    return auto_init_hook.enable_auto_connect, data.enable_progress_bars, levels

def observe():
    while not ray.is_initialized():
        time.sleep(0.01)
    time.sleep(0.5)
    states.append(state())
    children.append(subprocess.Popen(["sleep", "60"]))

signal.signal(signal.SIGTERM, lambda *_: print("terminated"))
states, children = [state()], []
settings_before = settings()
observer = threading.Thread(target=observe)
observer.start()
scored = score.run(ScoreConfig(checkpoints_dir=sys.argv[1], input=(sys.argv[2],),
    output=sys.argv[3], text_column="SentimentText", keep_columns=["id"], part_rows=5, quiet=True))
observer.join()
assert scored.new_rows == 20, scored
states.append(state())
assert states[0] == states[1] == states[2], states
assert settings() == settings_before, settings()
assert not ray.is_initialized()
assert children[0].poll() is None
children[0].kill()
"""


@pytest.mark.slow(15)
@pytest.mark.ray
@pytest.mark.process
def test_a_process_without_ray_is_as_it_was(root):
    paths = [str(root / name) for name in ("model", "corpus", "scored")]
    command = [sys.executable, "-c", CALLER, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
