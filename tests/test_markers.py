"""Tests without a marker get no process and no network: `conftest` sees to it."""

import signal
import socket
import subprocess
import sys

import pytest


def test_without_its_marker_a_test_starts_no_process():
    with pytest.raises(pytest.fail.Exception, match="is not marked `process`"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_without_its_marker_a_test_connects_to_no_other_machine():
    with (
        socket.socket() as connection,
        pytest.raises(pytest.fail.Exception, match="is not marked `registry`"),
    ):
        connection.connect(("192.0.2.1", 80))


@pytest.mark.process
def test_what_tests_start_can_be_interrupted():
    """In the background, too, where a shell has turned SIGINT off."""
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"True\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
