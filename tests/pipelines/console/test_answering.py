"""A bucket whose server does not answer is one line after some seconds, whichever flag names it."""

import socket
import time

import pytest

from pipelines import export, score, status, train, verify
from pipelines.console import answering, command
from sentiment import buckets


@pytest.fixture
def nobody(monkeypatch):
    """An address where nobody listens, as the server of all buckets."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setattr(buckets, "REACH_SECONDS", 1.5)
        monkeypatch.setattr(answering, "ANSWER_SECONDS", 0.2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://{address}")
        yield address


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
def test_a_server_that_does_not_answer_is_told_soon(program, flags, nobody, capsys):
    began = time.monotonic()
    assert command.exit_code(program.load, "program", "", flags) == 1
    assert time.monotonic() - began < 15
    said, error = capsys.readouterr().err.splitlines()
    assert "://away/out: no answer yet, trying for some 10 s ..." in said
    _, port = nobody.split(":")
    assert f"://away/out cannot be reached: no connection to 127.0.0.1, port {port}" in error
    assert error.endswith("run the same command again")
