"""On several nodes, raylets of this machine: one dies, one joins, one has a disk of its own."""

import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.generated import save_checkpoint, write_shards
from tests.programs import contents, scoring, start


@pytest.fixture
def cluster(monkeypatch):
    """A head of one CPU, which counts every second; programs find it."""
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def actors(raylet: int) -> list[str]:
    """Names of the scoring actors of a node."""
    processes = psutil.Process(raylet).children(recursive=True)
    return [process.name() for process in processes if "PartActor" in " ".join(process.cmdline())]


def metrics(port: int) -> dict[str, float]:
    """What a node's Prometheus endpoint shows of our own, summed over its processes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    found: Counter[str] = Counter()
    for line in lines:
        if line.startswith("ray_sentiment_"):
            found[line.partition("{")[0]] += float(line.rpartition(" ")[2])
    return dict(found)


@pytest.mark.timeout(600)
def test_a_node_dies_while_scoring_and_another_joins(cluster, tmp_path):
    save_checkpoint(tmp_path / "model", hidden=640)
    write_shards(tmp_path / "corpus", rows=40_000, shards=4)
    first = cluster.add_node(num_cpus=1)
    job = start("score", *scoring(tmp_path, tmp_path / "scored", 1000))
    deadline = time.monotonic() + 200
    raylet = first.all_processes["raylet"][0].process.pid
    while len(list((tmp_path / "scored").glob("part-*"))) < 5 or not actors(raylet):
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cluster.remove_node(first, allow_graceful=False)
    second = cluster.add_node(num_cpus=1)
    raylet = second.all_processes["raylet"][0].process.pid
    used, counted = False, {}
    while job.poll() is None and time.monotonic() < deadline:
        used = used or bool(actors(raylet))
        # A gauge is only there for a while after it was set.
        counted |= metrics(cluster.head_node.metrics_export_port)
        time.sleep(0.05)
    said, complained = job.communicate(timeout=200)
    assert (job.returncode, complained) == (0, ""), said
    assert used
    parts = counted["ray_sentiment_part_seconds_count"]
    assert 0 < parts <= 40
    assert counted["ray_sentiment_rows_scored_total"] == parts * 1000
    assert 0 < counted["ray_sentiment_model_load_seconds"] < 60
    assert "40,000 rows scored" in said

    again = start("score", *scoring(tmp_path, tmp_path / "whole", 1000))
    assert again.communicate(timeout=200)[1] == ""
    found = contents(tmp_path / "scored")
    assert found == contents(tmp_path / "whole")
    assert "_SUCCESS" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process mounts of its own")
def test_a_directory_that_a_node_does_not_share_is_refused(cluster, tmp_path):
    save_checkpoint(tmp_path / "model")
    write_shards(tmp_path / "corpus", rows=3000, shards=1)
    (tmp_path / "here").mkdir()
    ray = f"exec {Path(sys.executable).parent}/ray start --address={cluster.address} --num-cpus=1"
    command = f"mount -t tmpfs none {tmp_path}/here && {ray} --block --disable-usage-stats"
    with (tmp_path / "node.log").open("w") as log:
        node = subprocess.Popen(["unshare", "-m", "sh", "-c", command], stdout=log, stderr=log)
    try:
        cluster.wait_for_nodes(timeout=60)
        deadline = time.monotonic() + 60
        while "Ray runtime started" not in (tmp_path / "node.log").read_text():
            assert node.poll() is None, (tmp_path / "node.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        job = start("score", *scoring(tmp_path, tmp_path / "here" / "scored", 1000))
        said, complained = job.communicate(timeout=200)
        assert job.returncode == 2, said
        assert complained.startswith(f"error: --output {tmp_path}/here/scored is not what node ")
        assert complained.count("\n") == 1
        assert not list((tmp_path / "here" / "scored").glob("part-*"))

        job = start(
            "train",
            *("--data_dir", tmp_path / "corpus", "--cache_dir", tmp_path / "here" / "cache"),
            *("--checkpoints_root", tmp_path / "c", "--summaries_dir", tmp_path / "l"),
            *("--stopwords_file", "None"),
        )
        said, complained = job.communicate(timeout=200)
        assert job.returncode == 2, said
        assert complained.startswith(f"error: --cache_dir {tmp_path}/here/cache is not what node ")
    finally:
        family = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=10)
