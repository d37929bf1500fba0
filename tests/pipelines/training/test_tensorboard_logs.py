"""What TensorBoard reads is what was trained, each step once, whenever the writer was killed."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

import numpy as np
import pyarrow.fs as pafs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from pipelines.training import metrics_files
from pipelines.training.tensorboard_logs import Summaries, mean_losses
from sentiment import storage
from sentiment.errors import InputError
from testing.properties import examples
from testing.waiting import wait_until

EVERY = 3
"""Steps between two validations."""


def loss(step: int) -> float:
    return 1 / step


def advance(summaries: Summaries, step: int) -> int:
    """Train from `step` to the next validation, as the training loop does."""
    random = np.random.default_rng(step)
    summaries.steps(step + 1, [loss(step + 1)], learning_rate=0.5)
    rest = [loss(s) for s in range(step + 2, step + EVERY + 1)]
    summaries.steps(step + 2, rest, learning_rate=0.5)
    step += EVERY
    metrics = {"validation_loss": loss(step) / 2, "validation_accuracy": 0.75}
    labels, probabilities = random.integers(0, 2, 50), random.random(50, "f4")
    weights = {"lstm/kernel": random.normal(size=(4, 8)).astype("f4"), "lstm/bias": np.zeros(8)}
    pairs = np.stack([1 - probabilities, probabilities], axis=1)
    summaries.validation(step, metrics, labels, pairs, ("negative", "positive"), weights)
    return step


def begin(directory) -> Summaries:
    summaries = Summaries(str(directory), 0)
    summaries.graph(GraphDef(node=[{"name": "x", "op": "Placeholder"}]).SerializeToString())
    flags = {"learning_rate": 0.5, "n_samples": None, "data_dir": "d", "layers": (1, 2)}
    flags["truncate"] = False
    summaries.hparams(flags)
    return summaries


def read(directory) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(accumulator: EventAccumulator, tag: str) -> dict[int, float]:
    events = accumulator.Tensors(tag)
    values = {e.step: float(tensor_util.make_ndarray(e.tensor_proto)) for e in events}
    assert [event.step for event in events] == sorted(values), tag
    return values


def expected_lines(step: int) -> list[dict[str, float]]:
    lines = []
    for s in range(1, step + 1):
        lines.append({"step": s, "loss": loss(s)})
        if s % EVERY == 0:
            validated = {"validation_loss": loss(s) / 2, "validation_accuracy": 0.75}
            lines.append({"step": s, **validated})
    return lines


def check(directory, step: int) -> None:
    """Every step up to `step`, once, and every tag."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected_lines(step)
    accumulator = read(directory)
    steps, validated = range(1, step + 1), range(EVERY, step + 1, EVERY)
    assert scalars(accumulator, "train/loss") == pytest.approx({s: loss(s) for s in steps})
    rates = scalars(accumulator, "train/learning_rate")
    assert rates == {s: 0.5 for s in steps if s % EVERY in (1, 0)}
    losses = scalars(accumulator, "validation/loss")
    assert losses == pytest.approx({s: loss(s) / 2 for s in validated})
    assert scalars(accumulator, "validation/accuracy") == dict.fromkeys(validated, 0.75)
    for tag in ("validation/pr_curves", "weights/lstm/kernel", "weights/lstm/bias"):
        assert [event.step for event in accumulator.Tensors(tag)] == list(validated)
    assert accumulator.Tags()["graph"]
    assert set(accumulator.PluginTagToContent("hparams")) == {"_hparams_/session_start_info"}


def test_tensorboard_reads_what_was_written(tmp_path):
    directory = tmp_path / "logs" / "run"
    summaries = begin(directory)
    step = advance(summaries, 0)
    summaries.save(step)
    check(directory, step)
    accumulator = read(directory)

    graph = accumulator.Graph()
    assert [node.name for node in graph.node] == ["x"]
    content = accumulator.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    # What is None is left out, so that a column of numbers is one.
    assert set(session.hparams) == {"learning_rate", "data_dir", "truncate", "layers"}
    assert session.hparams["learning_rate"].number_value == 0.5
    assert session.group_name == "run"

    random = np.random.default_rng(0)
    labels, probabilities = random.integers(0, 2, 50), random.random(50, "f4")
    weights = random.normal(size=(4, 8)).astype("f4")
    (event,) = accumulator.Tensors("validation/pr_curves")
    true, false, _, missed, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
    middle = len(true) // 2
    positive = probabilities >= middle / (len(true) - 1)
    assert true[middle] == (labels[positive] == 1).sum()
    assert false[middle] == (labels[positive] == 0).sum()
    assert true[0] + missed[0] == labels.sum()
    assert recall[middle] == pytest.approx(true[middle] / labels.sum())
    assert precision[middle] == pytest.approx(true[middle] / positive.sum())

    (event,) = accumulator.Tensors("weights/lstm/kernel")
    left, right, counts = tensor_util.make_ndarray(event.tensor_proto).T
    assert counts.sum() == weights.size
    assert (left[0], right[-1]) == pytest.approx((weights.min(), weights.max()))
    inside = (weights >= left[7]) & (weights < right[7])
    assert counts[7] == inside.sum()


class Killed(Exception):
    pass


@examples(30)
@given(st.lists(st.sampled_from(["go on", "unsaved", "segment", "torn", "unreported"]), max_size=6))
def test_every_step_is_there_once_however_often_it_was_killed(tmp_path_factory, attempts):
    """An attempt goes on for a while and is killed at one of the moments there are."""
    directory = tmp_path_factory.mktemp("run")
    begin(directory)  # Killed before anything was saved.
    reported, append = 0, storage.append
    for moment in [*attempts, "go on"]:
        with pytest.MonkeyPatch.context() as patched:
            summaries = Summaries(str(directory), reported) if reported else begin(directory)
            step = advance(summaries, reported)
            summaries.save(step)
            reported = step
            if moment == "go on":
                check(directory, reported)
                continue
            step = advance(summaries, step)
            if moment in ("segment", "torn"):

                def killed(path, content, torn=moment == "torn"):
                    if torn:
                        append(path, content[: len(content) * 2 // 3])
                    raise Killed

                patched.setattr(storage, "append", killed)
                with pytest.raises(Killed):
                    summaries.save(step)
            elif moment == "unreported":
                summaries.save(step)


def test_a_run_that_begins_anew_leaves_nothing_of_another_and_all_that_is_not_its_own(tmp_path):
    step = advance(summaries := begin(tmp_path), 0)
    summaries.save(step)
    for name in ("events.out.tfevents.1700000000.host.1.0.v2", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    begin(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "events.out.tfevents.000000000000",
        "events.out.tfevents.1700000000.host.1.0.v2",
        "metrics.jsonl",
        "notes.txt",
    ]
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_a_bucket_holds_the_same_as_a_disk(tmp_path, monkeypatch):
    # Arrow's own file system in memory: like an object store it is no local one.
    bucket = pafs._MockFileSystem()
    directory = "bucket/logs/run"
    monkeypatch.setattr(storage, "resolve", lambda path: (bucket, path))
    bucket.create_dir(directory)
    for first in (0, EVERY):  # The second time what was saved after `first` is removed.
        summaries = Summaries(directory, first)
        for _ in range(2):
            first = advance(summaries, first)
            summaries.save(first)
    assert metrics_files.read(directory) == expected_lines(3 * EVERY)
    steps = (EVERY, 2 * EVERY, 3 * EVERY)
    assert sorted(storage.names(directory)) == [
        *(f"events.out.tfevents.{step:012d}" for step in steps),
        *(f"metrics-{step:012d}.jsonl" for step in steps),
    ]
    # Each validation writes its own lines, and a reader who has the others reads no more.
    (last,) = metrics_files.changed(directory, sizes_but_last(directory)).values()
    assert len(last.splitlines()) == EVERY + 1
    # A version that could not append left one file.
    whole = b"".join(metrics_files.changed(directory, {}).values())
    for step in steps:
        storage.remove(f"{directory}/metrics-{step:012d}.jsonl")
    storage.write(f"{directory}/metrics.jsonl", whole)
    summaries = Summaries(directory, EVERY)
    summaries.save(advance(summaries, EVERY))
    assert metrics_files.read(directory) == expected_lines(2 * EVERY)


def sizes_but_last(directory):
    *known, _ = metrics_files.changed(directory, {}).items()
    return {name: len(content) for name, content in known}


@pytest.mark.parametrize("damage", ["loss", '{"loss": 1}', "[1]", '{"step": "x"}', ""])
def test_damaged_metrics_are_named(damage, tmp_path):
    good = '{"step": 1, "loss": 1.0}\n'
    (tmp_path / "metrics.jsonl").write_text(f"{good}{damage}\n{good}")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2 is damaged"):
        Summaries(str(tmp_path), 1)


def test_metrics_that_somebody_removed_are_no_error(tmp_path):
    summaries = Summaries(str(tmp_path), EVERY)
    step = advance(summaries, EVERY)
    summaries.save(step)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected_lines(step)[EVERY + 1 :]


def test_weights_and_probabilities_that_diverged_are_no_error(tmp_path):
    summaries = Summaries(str(tmp_path), 0)
    nan = np.full(4, np.nan)
    summaries.steps(1, [float("nan")])
    metrics = {"validation_loss": float("nan")}
    weights = {"w": nan, "v": np.array([1, np.inf, 2])}
    summaries.validation(1, metrics, np.array([0, 1, 0, 1]), nan, ("negative", "positive"), weights)
    summaries.save(1)
    accumulator = read(tmp_path)
    assert np.isnan(scalars(accumulator, "train/loss")[1])
    assert "validation/pr_curves" not in accumulator.Tags()["tensors"]
    for tag, count in (("weights/w", 0), ("weights/v", 2)):
        (event,) = accumulator.Tensors(tag)
        assert tensor_util.make_ndarray(event.tensor_proto)[:, 2].sum() == count


@pytest.mark.parametrize("number", [3, 8])
def test_each_of_the_most_frequent_classes_has_a_curve(tmp_path, number):
    random = np.random.default_rng(0)
    # Of eight classes, the last five are the most frequent ones.
    labels = np.repeat(np.arange(number), np.arange(number) + 10)
    probabilities = random.dirichlet(np.ones(number), len(labels))
    classes = [f"class {k}: '/x'" for k in range(number)]
    summaries = Summaries(str(tmp_path), 0)
    summaries.validation(1, {}, labels, probabilities, classes, {})
    summaries.save(1)
    accumulator = read(tmp_path)
    shown = range(number)[-5:]
    tags = {f"validation/{classes[k]}/pr_curves": k for k in shown}
    assert set(accumulator.Tags()["tensors"]) == set(tags)
    for tag, k in tags.items():
        (event,) = accumulator.Tensors(tag)
        true, _, _, missed, _, _ = tensor_util.make_ndarray(event.tensor_proto)
        middle = len(true) // 2
        positive = probabilities[:, k] >= middle / (len(true) - 1)
        assert true[middle] == (labels[positive] == k).sum()
        assert true[0] + missed[0] == k + 10


def test_tensorboard_that_reads_while_it_is_written_sees_every_step_once(tmp_path):
    multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 0})
    step = advance(summaries := begin(tmp_path / "run"), 0)
    summaries.save(step)
    for _ in range(3):
        step = advance(summaries, step)
        summaries.save(step)
        multiplexer.AddRunsFromDirectory(str(tmp_path))
        multiplexer.Reload()
        # Killed before the last segment was reported: it is removed, and written again.
        summaries = Summaries(str(tmp_path / "run"), step - EVERY)
        advance(summaries, step - EVERY)
        summaries.save(step)
    multiplexer.Reload()
    steps = [event.step for event in multiplexer.Tensors("run", "train/loss")]
    assert steps == list(range(1, step + 1))


@pytest.fixture
def server(tmp_path):
    """Two runs, and TensorBoard's own web server on them; a function that asks it for JSON."""
    for name in ("one", "other"):
        step = advance(summaries := begin(tmp_path / name), 0)
        summaries.save(step)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0"]
    command += ["--host", "127.0.0.1", "--load_fast", "false"]
    log = tmp_path / "log.txt"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)

    def address() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return re.search(r"http://127\.0\.0\.1:\d+", log.read_text())

    try:
        url = wait_until(address, 90, "the address of TensorBoard", poll_seconds=0.2)[0]

        def ask(path: str, body: object = None):
            data = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(url + path, data, headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read().decode()

        def both_runs() -> bool:
            return json.loads(ask("/data/runs")) == ["one", "other"]

        wait_until(both_runs, 90, "both runs in TensorBoard", poll_seconds=0.2)
        yield ask
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.mark.process
def test_tensorboard_shows_all_of_it(server):
    tags = json.loads(server("/data/plugin/scalars/tags"))
    named = {"train/loss", "train/learning_rate", "validation/loss", "validation/accuracy"}
    assert set(tags["one"]) == named
    points = json.loads(server("/data/plugin/scalars/scalars?run=one&tag=train/loss"))
    assert [[step, value] for _, step, value in points] == [
        [step, pytest.approx(loss(step))] for step in range(1, EVERY + 1)
    ]
    assert set(json.loads(server("/data/plugin/histograms/tags"))["other"]) == {
        "weights/lstm/kernel",
        "weights/lstm/bias",
    }
    tag = "run=one&tag=weights/lstm/kernel"
    ((_, step, buckets),) = json.loads(server(f"/data/plugin/histograms/histograms?{tag}"))
    assert (step, sum(count for _, _, count in buckets)) == (EVERY, 32)
    curves = json.loads(server("/data/plugin/pr_curves/pr_curves?run=one&tag=validation/pr_curves"))
    assert [curve["step"] for curve in curves["one"]] == [EVERY]
    assert len(curves["one"][0]["precision"]) > 100
    assert 'name: "x"' in server("/data/plugin/graphs/graph?run=one&conceptual=false")

    experiment = json.loads(server("/data/plugin/hparams/experiment", {}))
    metrics = {(info["name"]["tag"]) for info in experiment["metricInfos"]}
    assert {"validation/loss", "validation/accuracy"} <= metrics
    assert {info["name"] for info in experiment["hparamInfos"]} >= {"learning_rate", "data_dir"}
    metric = {"name": {"group": "", "tag": "validation/accuracy"}}
    query = {"startIndex": 0, "sliceSize": 10, "colParams": [{"metric": metric["name"]}]}
    query |= {"allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING", "STATUS_SUCCESS"]}
    groups = json.loads(server("/data/plugin/hparams/session_groups", query))["sessionGroups"]
    assert {group["name"] for group in groups} == {"one", "other"}
    for group in groups:
        values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        assert values["validation/accuracy"] == 0.75
        assert group["hparams"]["learning_rate"] == 0.5


@examples(20)
@given(st.integers(0, 40), st.integers(1, 50))
def test_the_curve_of_losses_is_short_and_has_their_mean(steps, points):
    with tempfile.TemporaryDirectory() as directory:
        summaries = Summaries(directory, 0)
        summaries.steps(1, [loss(step) for step in range(1, steps + 1)])
        summaries.save(steps)
        curve = mean_losses(directory, points)
    assert len(curve) <= points
    assert [point["step"] for point in curve][-1:] == [steps][: len(curve)]
    counts = np.diff([0, *(point["step"] for point in curve)])
    assert len(set(counts[:-1])) <= 1
    total = sum(n * point["loss"] for n, point in zip(counts, curve, strict=True))
    assert total == pytest.approx(sum(loss(step) for step in range(1, steps + 1)))


def test_the_curve_of_losses_leaves_out_validations_and_is_empty_where_nothing_is(tmp_path):
    assert mean_losses(str(tmp_path / "none"), 10) == []
    summaries = begin(tmp_path)
    for step in (0, EVERY):
        advance(summaries, step)
    summaries.save(2 * EVERY)
    steps = range(1, 2 * EVERY + 1)
    assert mean_losses(str(tmp_path), 100) == [{"step": s, "loss": loss(s)} for s in steps]
