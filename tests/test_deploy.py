"""The files a cluster is started from, as far as they can be checked without one."""

import gzip
import json
import os
import re
import shlex
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import tyro
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_cli

from pipelines.scoring.config import ScoreConfig
from pipelines.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
CONFIGS = ("cluster.yaml", "cluster.local.yaml")
JOBS = {"train": TrainConfig, "score": ScoreConfig}


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("name", CONFIGS)
def test_ray_up_takes_it(name):
    prepared = prepare_config(load(name))
    validate_config(prepared)
    broken = load(name) | {"no_such_key": 1}
    with pytest.raises(Exception, match="no_such_key"):
        validate_config(prepare_config(broken))


def start_flags(config: dict, role: str) -> tuple[dict[str, str], dict[str, object]]:
    """Environment and flags of a role's `ray start`, as the Ray that is pinned understands them."""
    *_, command = config[f"{role}_start_ray_commands"]
    export, ray_start = map(shlex.split, command.split(";"))
    assert (export[0], ray_start[:2]) == ("export", ["ray", "start"])
    context = ray_cli.make_context("ray start", ray_start[2:])
    return dict(word.split("=") for word in export[1:]), context.params


@pytest.mark.parametrize("name", CONFIGS)
def test_nobody_gets_in_without_the_token(name):
    config = load(name)
    for role in ("head", "worker"):
        environment, flags = start_flags(config, role)
        assert environment == {"RAY_AUTH_MODE": "token"}
        assert flags["head"] == (role == "head")
        if role == "head":
            # Without it no worker is started.
            assert flags["autoscaling_config"] == "~/ray_bootstrap_config.yaml"
            assert flags["dashboard_host"] == "127.0.0.1"
        else:
            assert flags["address"] == "$RAY_HEAD_IP:6379"
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_programs_write_stays_home(name):
    """What git ignores at the root, because our programs write it, `ray up` does not copy."""
    lines = (ROOT / ".gitignore").read_text().splitlines()
    written = [line.strip("/").replace("*", "mine") for line in lines if line.startswith("/")]
    assert len(written) >= 4
    excluded = [pattern.rstrip("/") for pattern in load(name)["rsync_exclude"]]
    assert [path for path in written if not any(fnmatch(path, e) for e in excluded)] == []
    assert {".git", ".venv"} < set(excluded)


def test_every_node_of_aws_is_as_closed_as_it_can_be():
    types = load("cluster.yaml")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    for name, kind in types.items():
        node = kind["node_config"]
        # Ray makes its own where these are missing: open to the world, and allowed to do anything.
        assert node["SecurityGroupIds"] == ["sg-00000000000000000"]
        role = "head" if name == "head" else "worker"
        assert node["IamInstanceProfile"]["Arn"].endswith(f"instance-profile/sentiment-{role}")
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert node["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] >= 100
        assert ("InstanceMarketOptions" in node) == (name != "head")
        assert kind.get("max_workers", 0) <= load("cluster.yaml")["max_workers"]


@pytest.mark.parametrize("role", ["head", "worker"])
def test_no_role_may_do_everything(role):
    policy = json.loads((ROOT / "deploy" / f"iam-{role}.json").read_text())
    for statement in policy["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert not action.endswith(":*")
            assert action != "*"
        if any(action.startswith("s3:") for action in actions):
            assert statement["Resource"].startswith("arn:aws:s3:::YOUR-BUCKET")
    if role == "worker":
        assert "ec2:" not in json.dumps(policy)


def test_every_image_has_the_ray_that_is_pinned():
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert pinned == version("ray")
    found = []
    for name in (*CONFIGS, "Dockerfile"):
        found += re.findall(r"rayproject/ray:(\S+?)-py311", (ROOT / name).read_text())
    for name in JOBS:
        found.append(rayjob(name)["spec"]["rayClusterSpec"]["rayVersion"])
        found += re.findall(r"rayproject/ray:(\S+?)-py311", rayjob_path(name).read_text())
    assert len(found) >= 7
    assert set(found) == {pinned}


def rayjob_path(name: str) -> Path:
    return ROOT / "deploy" / f"rayjob-{name}.yaml"


def rayjob(name: str) -> dict:
    return yaml.safe_load(rayjob_path(name).read_text())


def pods(name: str) -> dict[str, dict]:
    """The specs of a job's pods: of the submitter, the head, and each group of workers."""
    spec = rayjob(name)["spec"]
    cluster = spec["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    found = {
        "submitter": spec["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
    }
    found |= {group: its["template"] for group, its in groups.items()}
    return {pod: template["spec"] for pod, template in found.items()}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_on_kubernetes_is_a_command_of_ours(name):
    job = rayjob(name)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    python, flag, program, *flags = shlex.split(job["spec"]["entrypoint"])
    assert (python, flag, program) == ("python", "-m", f"pipelines.{name}")
    config = tyro.cli(JOBS[name], args=flags, use_underscores=True)
    # What another cluster is to go on with after a failure has a name, in a bucket.
    if name == "train":
        assert config.run_name
        paths = [config.data_dir, config.checkpoints_root, config.summaries_dir]
    else:
        paths = [config.checkpoints_dir, *config.input, config.output]
    assert all(path.startswith("s3://YOUR-BUCKET/") for path in paths)
    assert job["spec"]["backoffLimit"] > 0
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


@pytest.mark.parametrize("name", JOBS)
def test_the_workers_of_a_job_on_kubernetes_are_as_many_as_it_asks_for(name):
    spec = rayjob(name)["spec"]
    flags = shlex.split(spec["entrypoint"])[3:]
    config = tyro.cli(JOBS[name], args=flags, use_underscores=True)
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (group,) = cluster["workerGroupSpecs"]
    assert 0 == group["minReplicas"] < group["maxReplicas"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    if name == "train":
        assert config.use_gpu
        assert limits["nvidia.com/gpu"] == "1"
        assert config.num_workers == group["maxReplicas"]
    else:
        assert "nvidia.com/gpu" not in limits
        assert config.num_actors == (1, group["maxReplicas"] * int(limits["cpu"]))


@pytest.mark.parametrize("name", JOBS)
def test_every_pod_is_as_closed_as_it_can_be(name):
    images = set()
    for pod, spec in pods(name).items():
        # The head's autoscaler asks Kubernetes for workers: it alone has a token for that.
        assert spec.get("automountServiceAccountToken", True) == (pod == "head")
        assert spec["securityContext"]["runAsNonRoot"]
        (container,) = spec["containers"]
        images.add(container["image"])
        context = container["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        for resource in ("cpu", "memory"):
            assert container["resources"]["requests"][resource]
            assert container["resources"]["limits"][resource]
        if pod != "submitter":
            (volume,) = spec["volumes"]
            assert volume["emptyDir"]["medium"] == "Memory"
            assert volume["emptyDir"]["sizeLimit"]
            assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
    build = (ROOT / "Dockerfile").read_text()
    assert images == {"sentiment:0.1.0" + ("-gpu" if name == "train" else "")}
    assert "docker build -t sentiment:0.1.0 ." in build
    assert f"sentiment:{version('sentiment-pipelines')}" in build
    cluster = rayjob(name)["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert not cluster["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"]


@pytest.mark.parametrize("name", JOBS)
def test_no_key_is_in_a_job(name):
    for pod, spec in pods(name).items():
        for container in spec["containers"]:
            assert "env" not in container
            secret = [{"secretRef": {"name": "sentiment-bucket"}}]
            assert container.get("envFrom", []) == ([] if pod == "submitter" else secret)
    assert not re.search(r"AKIA|[A-Za-z0-9/+]{40}", rayjob_path(name).read_text())


@pytest.mark.skipif("KUBERAY_SCHEMA" not in os.environ, reason="no schema of KubeRay is named")
@pytest.mark.parametrize("name", JOBS)
def test_kuberay_takes_it(name):
    """`KUBERAY_SCHEMA`: the openAPIV3Schema of its RayJob, JSON, perhaps compressed."""
    path = Path(os.environ["KUBERAY_SCHEMA"])
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    check = jsonschema.Draft202012Validator(strict(json.loads(content)))
    check.validate(rayjob(name))
    for place in (("spec",), ("spec", "rayClusterSpec"), ("spec", "submitterPodTemplate", "spec")):
        broken = rayjob(name)
        at = broken
        for key in place:
            at = at[key]
        at["noSuchKey"] = 1
        with pytest.raises(jsonschema.ValidationError, match="noSuchKey"):
            check.validate(broken)


def strict(schema):
    """A schema of Kubernetes, which drops fields it does not know, as one that refuses them."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    open_ended = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & set(made)
    if isinstance(made.get("properties"), dict) and not open_ended:
        made["additionalProperties"] = False
    return made
