"""What a job writes is not left in its copy of the code."""

import json
import re

import pytest

from pipelines.cluster.submitted import JOB, require_lasting
from sentiment.errors import InputError


@pytest.fixture(autouse=True)
def unpacked(tmp_path, monkeypatch):
    """The working directory of a job whose code was uploaded."""
    monkeypatch.chdir(tmp_path)
    set_job(monkeypatch, {"working_dir": "gcs://_ray_pkg_1.zip"})
    return tmp_path


def set_job(monkeypatch, runtime_env):
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": runtime_env, "metadata": {}}))


@pytest.mark.parametrize("path", ["scored", "./a/b", ".", "ABSOLUTE"])
def test_a_path_below_the_code_is_refused(unpacked, path):
    path = path.replace("ABSOLUTE", str(unpacked / "scored"))
    said = f"--output {path} would be in this job's copy of the code, below {unpacked}, "
    with pytest.raises(InputError, match=re.escape(said)):
        require_lasting(path, "--output")


@pytest.mark.parametrize("path", ["s3://bucket/scored", "/scored", "../scored", "~/scored"])
def test_other_paths_last(path):
    require_lasting(path, "--output")


@pytest.mark.parametrize("runtime_env", [{}, None, {"working_dir": "local:///shared/code"}])
def test_a_job_without_an_upload_is_where_the_head_is(monkeypatch, runtime_env):
    set_job(monkeypatch, runtime_env)
    require_lasting("scored", "--output")


def test_a_program_that_is_no_job_may_write_here(monkeypatch):
    monkeypatch.delenv(JOB)
    require_lasting("scored", "--output")
