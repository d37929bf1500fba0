"""The metrics of a job arrive at Ray's endpoint, and are those of the dashboard and the docs."""

import json
import re
from pathlib import Path

import pytest

from pipelines.scoring.part_data import STAGES, PartCounts, PartResult, WrittenFile
from sentiment.classes import Classes
from testing.prometheus import PREFIX, Series, series
from testing.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.process]

ROOT = Path(__file__).parents[3]
OUTPUT = "/a/job's output"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())


@pytest.fixture(scope="module")
def exported() -> list[Series]:
    """What the endpoint shows of a job of three parts, one of which failed."""
    from testing.local_ray import another

    with another(metrics_report_interval_ms=1000):
        return exported_of_a_job()


def exported_of_a_job() -> list[Series]:
    """The same, of the Ray that is there."""
    import ray

    from pipelines.scoring.ray_metrics import JobMetrics

    metrics = JobMetrics(OUTPUT, Classes(("bad", "good")), parts=4)
    counts = PartCounts(rows=10, rejected=2, truncated=1, tokens=50, unknown=5)
    file, seconds = WrittenFile(1000, "0"), dict(zip(STAGES, (0.5, 2.0, 0.2), strict=True))
    metrics.add(PartResult("a", counts, answers=[10, 7], file=file, seconds=seconds, wordless=3))
    metrics.add(PartResult("b", counts, answers=[10, 0], file=file, rejected_file=file))
    metrics.add(PartResult("c", PartCounts(), "an outage"))
    (node,) = ray.nodes()
    port = node["MetricsExportPort"]

    def found() -> list[Series]:
        return [each for each in series(port) if each.labels.get("output") == OUTPUT]

    wait_until(found, 30, "the metrics", poll_seconds=0.2)
    return found()


def value(exported: list[Series], name: str, **labels: str) -> float:
    (one,) = [
        each
        for each in exported
        if each.name == PREFIX + name and labels.items() <= each.labels.items()
    ]
    return one.value


def test_they_count_what_became_of_the_parts(exported):
    numbers = {
        "parts_planned": 4,
        "parts_done": 2,
        "parts_failed": 1,
        "rows_scored": 20,
        "rows_rejected": 4,
        "rows_truncated": 2,
        "rows_wordless": 3,
        "tokens": 100,
        "tokens_unknown": 10,
        "bytes_written": 3000,
    }
    assert {name: value(exported, f"{name}_total") for name in numbers} == numbers
    assert value(exported, "rows_of_class_total", **{"class": "bad"}) == 13
    assert value(exported, "rows_of_class_total", **{"class": "good"}) == 7
    # A part that was there already took no time.
    for stage, seconds in zip(STAGES, (0.5, 2.0, 0.2), strict=True):
        assert value(exported, "stage_seconds_total", stage=stage) == seconds
        assert value(exported, "part_seconds_count", stage=stage) == 1


def expressions() -> list[str]:
    """Those of the dashboard's panels and variables, with Grafana's variables replaced."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    values = {"$__rate_interval": "1m", "$output": ".*"}
    for name, text in values.items():
        found = [each.replace(name, text) for each in found]
    return found


def test_the_dashboard_asks_for_what_is_exported(exported):
    exports = {each.name: each.labels.keys() for each in exported}
    # Of an actor; see test_nodes.
    exports[f"{PREFIX}model_load_seconds"] = {}.keys()
    variable = DASHBOARD["templating"]["list"][1]["definition"]
    for expression in [*expressions(), variable.replace("label_values", "sum by (output) ")]:
        names = re.findall(rf"\b{PREFIX}\w+", expression)
        asked = re.findall(r"(\w+)=~", expression)
        for group in re.findall(r"(?:by|ignoring) \(([^)]*)\)", expression):
            asked += re.split(r",\s*", group)
        assert names, expression
        assert set(names) <= exports.keys(), expression
        assert all(set(asked) <= exports[name] for name in names if exports[name]), expression


def test_the_dashboards_expressions_are_promql():
    promql = pytest.importorskip("promql_parser")
    for expression in expressions():
        promql.parse(expression)
    with pytest.raises(ValueError, match="unclosed"):
        promql.parse("sum(rate(a[1m])")


def test_the_documents_list_every_metric(exported):
    text = (ROOT / "docs" / "operations.md").read_text()
    listed = set(re.findall(rf"^\| `({PREFIX}\w+)`", text, re.MULTILINE))
    names = {re.sub("_(bucket|sum|count|created)$", "", each.name) for each in exported}
    assert listed == names | {f"{PREFIX}model_load_seconds"}
