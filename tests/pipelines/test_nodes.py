"""On several nodes, raylets of this machine: they die, join, have GPUs, or a disk of their own."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster
from ray.experimental import internal_kv

import sentiment
from pipelines.cluster.ray_train_internals import SNAPSHOT
from testing.generated import save_checkpoint, write_shards
from testing.programs import end, scoring, start, wait_for_parts
from testing.prometheus import series
from testing.waiting import wait_until

pytestmark = [
    *(pytest.mark.slow(45), pytest.mark.ray, pytest.mark.process),
    pytest.mark.timeout(600),
]

Node = Any
"""What `Cluster.add_node` returns. Ray does not publish its type."""

ROWS = 8_000

POLL_SECONDS = 0.2
"""Looking for processes takes CPU time that they need."""


@pytest.fixture(scope="module")
def cluster():
    """A head of one CPU, which counts every two seconds; programs find it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_metrics_report_interval_ms", "2000")
        # A node that does not answer five times in a row is dead: after 15 seconds, else.
        environment.setenv("RAY_health_check_period_ms", "500")
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        environment.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        # It would leave a Ray of this process, that of other tests, without its key-value store.
        client = internal_kv.internal_kv_get_gcs_client()
        cluster.shutdown()
        if client:
            internal_kv._initialize_internal_kv(client)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus, a model that takes a core some five seconds for it, and a small one."""
    root = tmp_path_factory.mktemp("nodes")
    save_checkpoint(root / "model", hidden=640)
    save_checkpoint(root / "small")
    table = write_shards(root / "corpus", rows=ROWS, shards=4)
    pq.write_table(table, root / "corpus.parquet")
    return root


@contextmanager
def joined(cluster: Cluster, **resources: int) -> Iterator[Node]:
    """A node for the length of a block."""
    node = cluster.add_node(**resources)
    try:
        yield node
    finally:
        kill(cluster, node)


def kill(cluster: Cluster, node: Node) -> None:
    """Kill all of a node at once, and wait until the cluster knows."""
    cluster.remove_node(node, allow_graceful=False)
    wait_for_nodes(cluster, 1 + len(cluster.worker_nodes))


def wait_for_nodes(cluster: Cluster, number: int) -> None:
    def alive() -> int:
        return sum(node["Alive"] for node in cluster.global_state.node_table())

    wait_until(lambda: alive() == number, 60, f"{number} nodes", poll_seconds=0.1)


def score(root: Path, output: str, model: str = "model") -> list[object]:
    return [*scoring(root, root / output, 400), "--checkpoints_dir", root / model]


def train(root: Path, cache: str, run: str = "run") -> list[object]:
    return [
        *("--data_dir", root / "corpus", "--cache_dir", root / cache, "--n_samples", 2000),
        *("--checkpoints_root", root / "models", "--summaries_dir", root / "logs"),
        *("--stopwords_file", "None", "--run_name", run),
    ]


def workers(node: Node) -> list[tuple[psutil.Process, str]]:
    """The processes of a node's workers, with their command lines."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found = []
    for process in raylet.children():
        with suppress(psutil.NoSuchProcess):
            found.append((process, " ".join(process.cmdline())))
    return found


def running(node: Node, word: str) -> list[psutil.Process]:
    """The processes of a node's workers whose names have that word."""
    return [process for process, line in workers(node) if word in line]


def wait_for(job: subprocess.Popen, node: Node, word: str) -> None:
    def is_running() -> bool:
        assert job.poll() is None, job.communicate()
        return bool(running(node, word))

    wait_until(is_running, 200, f"a {word}", POLL_SECONDS)


@contextmanager
def paused(actors: list[psutil.Process]) -> Iterator[None]:
    """Leave what there is to do to others for the length of a block."""
    for actor in actors:
        actor.suspend()
    try:
        yield
    finally:
        for actor in actors:
            with suppress(psutil.NoSuchProcess):
                actor.resume()


def most(job: subprocess.Popen, nodes: list[Node], *words: str) -> dict[str, list[int]]:
    """By word, the most processes that each node has `running` at once until the job ends."""
    highest = {word: [0] * len(nodes) for word in words}
    while job.poll() is None:
        for number, node in enumerate(nodes):
            lines = [line for _, line in workers(node)]
            for word, counts in highest.items():
                counts[number] = max(counts[number], sum(word in line for line in lines))
        time.sleep(POLL_SECONDS)
    return highest


def metrics(port: int) -> dict[str, float]:
    """What a node's Prometheus endpoint shows of our own, summed over its processes."""
    found: Counter[str] = Counter()
    for each in series(port):
        found[each.name] += each.value
    return dict(found)


def require_every_row_once(root: Path, output: str, model: str = "model", atol: float = 0) -> None:
    """In order, and of every twentieth the probability that the model gives its text."""
    assert (root / output / "_SUCCESS").exists()
    corpus = pq.read_table(root / "corpus.parquet")
    scored = pa.concat_tables(map(pq.read_table, sorted((root / output).glob("part-*"))))
    assert scored["id"].to_pylist() == corpus["id"].cast("string").to_pylist()
    expected = sentiment.load(str(root / model)).predict_proba(
        corpus["SentimentText"].to_pylist()[::20]
    )[:, 1]
    found = scored["positive_probability"].to_numpy()[::20]
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_training_goes_on_with_the_workers_that_are_left(cluster, root):
    """Of two workers one is on a node that dies when the first checkpoint is there.

    The first test of this cluster: Ray's autoscaling coordinator begins with it, and so knows the
    node; later it may take 20 s to know one that has joined, and training would begin on one.
    """
    flags = train(root, "elastic", "elastic")
    more = ("--num_workers", 1, 2, "--train_steps", 400, "--validate_every", 50)
    with joined(cluster, num_cpus=1) as node:
        # This cluster finds within three seconds that a node is dead.
        job = start("train", *flags, *more, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="4")
        wait_for(job, node, "RayTrainWorker")
        listed = root / "models" / "_runs" / "elastic" / SNAPSHOT

        def is_saved() -> bool:
            assert job.poll() is None, job.communicate()
            return listed.exists()

        wait_until(is_saved, 120, "a checkpoint that Ray Train knows", POLL_SECONDS)
    (controller,) = running(cluster.head_node, "TrainController")
    loaded: set[str] = set()
    while job.poll() is None:
        with suppress(psutil.NoSuchProcess):
            loaded |= {Path(mapped.path).name for mapped in controller.memory_maps()}
        time.sleep(1)  # Maps of memory take long to read.
    # That would delay what comes next by seconds.
    assert not [name for name in loaded if "tensorflow" in name]
    output, errors = job.communicate(timeout=200)
    assert job.returncode == 0, errors
    assert "1 worker now, 2 before: sums over other workers are rounded" in output
    resumed = re.search(r"resuming after step (\d+)$", output, re.MULTILINE)
    assert 0 < int(resumed[1]) < 400
    assert " step 400/400, " in output
    assert (root / "models" / "elastic" / "model.json").exists()


def test_a_node_dies_while_scoring_and_another_takes_its_place(cluster, root):
    head, first, counted = cluster.head_node, cluster.add_node(num_cpus=1), {}
    job = start("score", *score(root, "scored"))
    wait_for_parts(root / "scored", job, 1)
    with ExitStack() as stack:
        # All rows could be scored before one node is known to be dead and another has joined.
        with paused(running(head, "PartActor") + running(first, "PartActor")):
            wait_for(job, head, "PartActor")
            wait_for(job, first, "PartActor")
            with paused(running(head, "PartActor")):
                kill(cluster, first)
                second = stack.enter_context(joined(cluster, num_cpus=1))
                wait_for(job, second, "PartActor")
        while job.poll() is None:
            # A gauge is only there for four seconds after it was set.
            counted |= metrics(head.metrics_export_port)
            time.sleep(0.1)
        said, complained = job.communicate(timeout=60)
    assert (job.returncode, complained) == (0, ""), said
    parts = counted["ray_sentiment_parts_done_total"]
    assert 0 < parts <= counted["ray_sentiment_parts_planned_total"] == ROWS / 400
    # A part that was there when its task ran again took no time.
    assert 0 < counted["ray_sentiment_part_seconds_count"] <= 3 * parts
    assert counted["ray_sentiment_rows_scored_total"] == parts * 400
    assert 0 < counted["ray_sentiment_model_load_seconds"] < 60
    assert f"{ROWS:,} rows scored" in said
    require_every_row_once(root, "scored")


@contextmanager
def joined_with_its_own(cluster: Cluster, directory: Path, log: Path) -> Iterator[None]:
    """A node for which the directory is an empty one."""
    ray = f"exec {Path(sys.executable).parent}/ray start --address={cluster.address} --num-cpus=1"
    command = f"mount -t tmpfs none {directory} && {ray} --block --disable-usage-stats"
    with log.open("w") as file:
        node = subprocess.Popen(["unshare", "-m", "sh", "-c", command], stdout=file, stderr=file)
    try:
        wait_for_nodes(cluster, 2)
        yield
    finally:
        end([psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)])
        wait_for_nodes(cluster, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process mounts of its own")
def test_a_node_that_does_not_share_a_directory_is_named_and_costs_no_row(cluster, root):
    here = root / "here"
    here.mkdir()
    command = ("score", *score(root, "here/scored"), "--num_actors", 1, 2)
    # Pauses between attempts would take ten seconds.
    job = start(*command, "--max_attempts", 1)
    wait_for_parts(here / "scored", job, 1)
    actors = running(cluster.head_node, "PartActor")
    with ExitStack() as stack:
        # Before the node joins, which takes as long as some machines do for all of the rows.
        with paused(actors):
            stack.enter_context(joined_with_its_own(cluster, here, root / "node.log"))
            said, complained = job.communicate(timeout=200)
        assert job.returncode == 1, said
        why = f"node {gethostname()} does not see {here}/scored/_manifest/.*"
        assert re.fullmatch(rf"error: .* failed.*; the first: part-.*: {why}: run .*\n", complained)
        assert 0 < len(list((here / "scored").glob("part-*"))) < ROWS / 400

        job = start(*command)
        said, complained = job.communicate(timeout=200)
        assert job.returncode == 2, said
        assert complained.startswith(f"error: --output {here}/scored: node ")
        assert complained.count("\n") == 1

        job = start("train", *train(root, "here/cache"))
        said, complained = job.communicate(timeout=200)
        assert job.returncode == 2, said
        assert complained.startswith(f"error: --cache_dir {here}/cache: node ")
    job = start(*command)
    assert job.communicate(timeout=200)[1] == ""
    require_every_row_once(root, "here/scored")


def test_gpus_are_for_those_that_compute(cluster, root):
    """GPUs that Ray only believes in: what it gives out is real, TensorFlow does without."""
    gpu = {"num_cpus": 1, "num_gpus": 1}
    with joined(cluster, **gpu) as first, joined(cluster, **gpu) as second:
        more = ("--num_workers", 2, "--train_steps", 20, "--use_gpu")
        job = start("train", *train(root, "cache"), *more)
        found = most(job, [cluster.head_node, first, second], "RayTrainWorker")
        assert job.returncode == 0, job.communicate()
        assert found == {"RayTrainWorker": [0, 1, 1]}

    # Two actors share the GPU of a node whose CPUs no task may have.
    with joined(cluster, num_cpus=0, num_gpus=1) as node:
        more = ("--use_gpu", "--gpus_per_actor", 0.5)
        job = start("score", *score(root, "gpu", "small"), *more)
        found = most(job, [cluster.head_node, node], "PartActor", "ReadParts")
        assert job.returncode == 0, job.communicate()
        # On a busy machine three processes were seen once: Ray gives a GPU to no more than two
        # actors, but the process of one that it has ended may not be gone when the next begins.
        assert found["PartActor"] in ([0, 2], [0, 3])
        assert found["ReadParts"][1] == 0
        require_every_row_once(root, "gpu", "small", atol=1e-5)
