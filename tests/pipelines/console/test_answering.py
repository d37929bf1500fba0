"""A bucket whose server does not answer is one line after some seconds, whichever flag names it."""

import time

import pytest

from pipelines import export, score, status, train, verify
from pipelines.console import command


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        (status, ["s3://away/out"]),
        (verify, ["gs://away/out"]),
        (score, ["--checkpoints_dir", "here", "--input", "here", "--output", "s3://away/out"]),
        (score, ["--checkpoints_dir", "gs://away/out", "--input", "here", "--output", "out"]),
        (export, ["--checkpoints_dir", "here", "--output", "s3://away/out"]),
        (train, ["--data_dir", "here", "--checkpoints_root", "s3://away/out"]),
    ],
)
def test_a_server_that_does_not_answer_is_told_soon(program, flags, silent_buckets, capsys):
    began = time.monotonic()
    assert command.exit_code(program.load, "program", "", flags) == 1
    assert time.monotonic() - began < 15
    said, error = capsys.readouterr().err.splitlines()
    assert "://away/out: no answer yet, trying for some 10 s ..." in said
    where = f"no connection to 127.0.0.1, port {silent_buckets}"
    assert f"://away/out cannot be reached: {where}" in error
    assert error.endswith("run the same command again")
