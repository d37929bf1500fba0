"""Workers of Ray Train -> a cluster of TensorFlow: each learns the addresses of all.

What `ray.train.tensorflow.TensorflowConfig` does, which to be imported loads TensorFlow, into the
driver and the controller too: they have no use for it, and it takes ten seconds and 600 MiB.
"""

import json
import os
import socket
from dataclasses import dataclass

import ray

from pipelines.cluster.ray_train_internals import Backend, BackendConfig


@dataclass
class TensorflowCluster(BackendConfig):
    """For a trainer's `backend_config`."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What sets the workers up, in Ray Train's controller."""
        return _TensorflowBackend


class _TensorflowBackend(Backend):
    def on_start(self, worker_group, backend_config: TensorflowCluster) -> None:
        addresses = worker_group.execute(_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, _join, addresses, rank)
                for rank in range(len(addresses))
            ]
        )


def _address() -> str:
    """Where this worker can be reached, at a port that is free now."""
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _join(addresses: list[str], rank: int) -> None:
    """Tell TensorFlow, which is not loaded yet, of the cluster and of its place in it."""
    task = {"type": "worker", "index": rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
