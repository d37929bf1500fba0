import pytest


@pytest.fixture(scope="session")
def local_ray():
    """A local Ray for all tests that call programs in this process."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
