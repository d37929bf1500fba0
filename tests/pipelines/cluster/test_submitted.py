"""What a job writes is not left in its copy of the code."""

import re

import pytest

from pipelines.cluster.submitted import COPIES, require_lasting
from sentiment.errors import InputError


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """The working directory of a job whose code was uploaded."""
    directory = tmp_path / COPIES.strip("/") / "_ray_pkg_1"
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory)
    return directory


@pytest.mark.parametrize("path", ["scored", "./a/b", ".", "../scored", "ABSOLUTE"])
def test_a_path_below_the_code_is_refused(unpacked, path):
    path = path.replace("ABSOLUTE", str(unpacked / "scored"))
    said = f"--output {path} would be in Ray's copy of this job's code, {unpacked.parent}"
    with pytest.raises(InputError, match=re.escape(said)):
        require_lasting(path, "--output")


@pytest.mark.parametrize("path", ["s3://bucket/scored", "/scored", "~/scored"])
def test_other_paths_last(unpacked, path):
    require_lasting(path, "--output")


def test_a_job_that_goes_elsewhere_may_write_there(unpacked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_lasting("scored", "--output")
    require_lasting(str(tmp_path / "scored"), "--output")
