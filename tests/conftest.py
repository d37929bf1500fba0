import os

import pytest

from sentiment import storage
from tests.buckets import S3Server


@pytest.fixture(scope="session")
def local_ray():
    """A local Ray for all tests that call programs in this process."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """An S3 server that this process and those it starts know by their environment."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    before = dict(os.environ)
    os.environ.update(server.environment)
    storage.bucket.cache_clear()
    yield server
    os.environ.clear()
    os.environ.update(before)
    server.stop()
