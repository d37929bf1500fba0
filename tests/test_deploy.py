"""The files a cluster is started from, as far as they can be checked without one."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
CONFIGS = ("cluster.yaml", "cluster.local.yaml")


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("name", CONFIGS)
def test_ray_up_takes_it(name):
    prepared = prepare_config(load(name))
    validate_config(prepared)
    broken = load(name) | {"no_such_key": 1}
    with pytest.raises(Exception, match="no_such_key"):
        validate_config(prepare_config(broken))


@pytest.mark.parametrize("name", CONFIGS)
def test_nobody_gets_in_without_the_token(name):
    config = load(name)
    for role in ("head", "worker"):
        *_, start = config[f"{role}_start_ray_commands"]
        assert start.startswith("export RAY_AUTH_MODE=token; ray start ")
    # Without it no worker is started.
    assert (
        "--autoscaling-config=~/ray_bootstrap_config.yaml" in config["head_start_ray_commands"][-1]
    )
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_large_stays_home(name):
    excluded = load(name)["rsync_exclude"]
    assert {".git", ".venv", "data/*/", "checkpoints", "logs", "scored"} == set(excluded)


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
    for path in [*(ROOT / name for name in (*CONFIGS, "Dockerfile"))]:
        found += re.findall(r"rayproject/ray:(\S+?)-py311", path.read_text())
    assert len(found) >= 4
    assert set(found) == {pinned}
