import os
from collections.abc import Iterator

import pytest

from sentiment import storage
from testing.buckets import GoogleServer, S3Server


@pytest.fixture(scope="session")
def local_ray():
    """A local Ray for all tests that call programs in this process."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """An S3 server for all tests."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def s3(s3_server):
    """An S3 server that this process and those it starts know by their environment."""
    yield from _known(s3_server)


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """A server of Google's buckets, known in the same way."""
    server = GoogleServer(tmp_path_factory.mktemp("google"))
    yield from _known(server)
    server.stop()


def _known(server: S3Server | GoogleServer) -> Iterator[S3Server | GoogleServer]:
    before = dict(os.environ)
    os.environ.update(server.environment)
    storage.bucket.cache_clear()
    yield server
    os.environ.clear()
    os.environ.update(before)
