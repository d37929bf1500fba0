"""What checks changes elsewhere does what `.ci/run` and `make lint` do here."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def pinned(name: str) -> str:
    found = re.search(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return found[1]


def test_the_workflow_runs_what_a_change_must_pass():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    # YAML 1.1 takes the key `on` for true.
    assert set(workflow[True]) == {"push", "pull_request"}
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"] <= 60
    *actions, last = job["steps"]
    assert last == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    versions = dict(step["uses"].split("@") for step in actions)
    assert set(versions) == {"actions/checkout", "actions/setup-python"}
    assert all(re.fullmatch(r"v\d+", version) for version in versions.values())
    (python,) = [step for step in actions if "setup-python" in step["uses"]]
    # As a string: 3.10 would be 3.1.
    assert python["with"]["python-version"] == "3.11"
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()
    assert (ROOT / python["with"]["cache-dependency-path"]).exists()


@pytest.mark.process
def test_the_hooks_are_the_ruff_that_is_pinned():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repository,) = hooks["repos"]
    assert repository["repo"] == "https://github.com/astral-sh/ruff-pre-commit"
    assert repository["rev"] == f"v{pinned('ruff')}"
    commands = subprocess.run(
        ["make", "--no-print-directory", "-n", "lint"], cwd=ROOT, capture_output=True, check=True
    )
    linted = re.findall(r"\bruff (\w+)", commands.stdout.decode())
    assert [hook["id"] for hook in repository["hooks"]] == [f"ruff-{name}" for name in linted]
