"""Set up a TensorFlow cluster from Ray Train's workers: each learns the addresses of all.

`ray.train.tensorflow.TensorflowConfig` does the same, but importing it loads TensorFlow into the
driver and the controller as well. They do not need it, and it takes ten seconds and 600 MiB.
"""

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

import ray

from pipelines.cluster.ray_train_internals import Backend, BackendConfig


@dataclass
class TensorflowCluster(BackendConfig):
    """The `backend_config` of a trainer."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that sets up the workers, in Ray Train's controller."""
        return _TensorflowBackend


class _TensorflowBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        addresses = worker_group.execute(_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, set_cluster, addresses, rank)
                for rank in range(len(addresses))
            ]
        )


def _address() -> str:
    """Address of this worker, HOST:PORT, with a port that is free now."""
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def set_cluster(addresses: list[str], rank: int) -> None:
    """Tell TensorFlow, before it is loaded, the addresses of all workers and this worker's rank."""
    task = {"type": "worker", "index": rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
