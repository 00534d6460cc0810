"""Image, compose file and Kubernetes manifest against real linters and schemas, since no container engine runs here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

from benchmarks.machines import services

REPOSITORY = Path(__file__).parents[1]
DOCKER = REPOSITORY / "docker"
COMPOSE = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())
MANIFESTS = list(yaml.safe_load_all((DOCKER / "kuberay.yaml").read_text()))
SECRETS = {"POSTGRES_PASSWORD": "1234", "RAY_AUTH_TOKEN": "5678"}


def manifest(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in MANIFESTS if one["kind"] == kind and one["metadata"]["name"] == name)


def ray_groups() -> dict[str, dict[str, Any]]:
    spec = manifest("RayCluster", "plasticbench")["spec"]
    return {"head": spec["headGroupSpec"]} | {group["groupName"]: group for group in spec["workerGroupSpecs"]}


def pods() -> list[tuple[str, dict[str, Any]]]:
    deployments = [
        (one["metadata"]["name"], one["spec"]["template"]) for one in MANIFESTS if one["kind"] == "Deployment"
    ]
    return [*deployments, *((f"ray-{name}", group["template"]) for name, group in ray_groups().items())]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    answer = subprocess.run(
        [hadolint, "--failure-threshold", "info", DOCKER / "Dockerfile"], capture_output=True, text=True
    )
    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_image_is_built_from_what_the_context_lets_through() -> None:
    ignored, *let_through = [
        line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    copied = re.findall(r"^COPY (.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert ignored == "*"
    assert sources == {line.removeprefix("!") for line in let_through if line.startswith("!")}
    assert all((REPOSITORY / source).exists() for source in sources)


def test_the_compose_file_follows_the_compose_specification() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    validator = validator_for(schema)(schema)
    data = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())
    assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(data)] == []
    data["services"]["ray-worker"]["comand"] = ["ray"]
    assert not validator.is_valid(data), "the schema notices a misspelt key"


def test_one_service_builds_the_image_that_all_share() -> None:
    built = [name for name, service in COMPOSE["services"].items() if "build" in service]
    own = [service["image"] for name, service in COMPOSE["services"].items() if name != "postgres"]
    assert len(built) == 1
    assert set(own) == {"${PLASTICBENCH_IMAGE:-plasticbench:latest}"}


def test_a_container_without_named_volumes_leaves_none_behind() -> None:
    assert not re.search(r"^VOLUME", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)


def test_the_gpus_belong_to_one_worker_that_no_scale_can_double() -> None:
    workers = [name for name, service in COMPOSE["services"].items() if "deploy" in service]
    assert workers == ["ray-worker-gpu"]
    own, other = COMPOSE["services"]["ray-worker-gpu"], COMPOSE["services"]["ray-worker"]
    assert own["container_name"], "compose refuses a second container of one name"
    assert own["profiles"] == ["gpu"]
    assert (own["cpus"], own["mem_limit"]) == ("${GPU_WORKER_CPUS:-0}", "${GPU_WORKER_MEMORY:-0}"), "no limit"
    assert own["command"] == [word for word in other["command"] if not word.startswith("--num-cpus")]
    assert {name: own[name] for name in ("environment", "volumes", "depends_on")} == {
        name: other[name] for name in ("environment", "volumes", "depends_on")
    }


def test_every_published_port_is_bound_to_loopback() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert all(service.get("network_mode") is None for service in COMPOSE["services"].values())


def test_services_wait_for_healthy_ones_and_come_back_when_they_die() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}, (name, other)
    assert {volume.split(":")[0] for one in COMPOSE["services"].values() for volume in one["volumes"]} == set(
        COMPOSE["volumes"]
    ), "only named volumes"


def test_head_and_workers_see_the_run_directories_at_one_path() -> None:
    head, worker = COMPOSE["services"]["ray-head"], COMPOSE["services"]["ray-worker"]
    assert head["volumes"] == worker["volumes"] == ["runs:/runs"]
    mounts = [group["template"]["spec"]["containers"][0]["volumeMounts"] for group in ray_groups().values()]
    assert all({"name": "runs", "mountPath": "/runs"} in mount for mount in mounts)
    assert manifest("PersistentVolumeClaim", "runs")["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("absent", sorted(SECRETS))
def test_compose_says_what_to_do_where_a_secret_is_missing(absent: str) -> None:
    with pytest.raises(ValueError, match=rf"^{absent} is not set; docs/cluster.md has the command"):
        services({name: value for name, value in SECRETS.items() if name != absent})


def test_the_documented_command_writes_every_secret_that_compose_asks_for(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "cluster.md").read_text()
    (command,) = re.findall(r"```bash\n(.*?>> docker/\.env.*?)```", text, re.DOTALL)
    file = tmp_path / "docker" / ".env"
    file.parent.mkdir()
    file.write_text("WORKER_CPUS=4\n")
    file.chmod(0o600)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    first = file.read_text()
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    assert file.read_text() == first, "PostgreSQL keeps the password that it began with"
    assert first.startswith("WORKER_CPUS=4\n")
    file.unlink()
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    written = dict(line.split("=") for line in file.read_text().splitlines())
    assert written.keys() == SECRETS.keys()
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in written.values())
    assert file.stat().st_mode & 0o077 == 0, "for the owner's eyes only"
    assert services(written)["mlflow"].environment["PGPASSWORD"] == written["POSTGRES_PASSWORD"]


def test_no_secret_is_in_the_repository_or_on_a_command_line() -> None:
    kept = subprocess.run(["git", "ls-files", "docker"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ".env" not in kept.stdout
    assert "/docker/.env" in (REPOSITORY / ".gitignore").read_text().splitlines()
    for service in services(SECRETS).values():
        assert not any(secret in " ".join(service.command) for secret in SECRETS.values())
    assert not any(one["kind"] == "Secret" for one in MANIFESTS)


def test_kubernetes_runs_the_commands_of_the_compose_file() -> None:
    compose = services(SECRETS)
    (mlflow,) = manifest("Deployment", "mlflow")["spec"]["template"]["spec"]["containers"]
    (postgres,) = manifest("Deployment", "postgres")["spec"]["template"]["spec"]["containers"]
    assert mlflow["args"] == compose["mlflow"].command
    assert postgres["args"] == compose["postgres"].command
    assert postgres["image"] == COMPOSE["services"]["postgres"]["image"]
    options = dict(word.removeprefix("--").partition("=")[::2] for word in compose["ray-head"].command[2:])
    own = ray_groups()["head"]["rayStartParams"]
    assert own == {name: options[name] for name in own}


def test_manifests_follow_the_schemas_of_kubernetes() -> None:
    for one in MANIFESTS:
        if one["apiVersion"] != "ray.io/v1":
            kubernetes_validate.validate(one, "1.35", strict=True)
    for name, template in pods():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, "1.35", strict=True)
        pod["spec"] = template["spec"] | {"container": []}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, "1.35", strict=True)


def test_ray_reads_the_ray_cluster_as_meant() -> None:
    """By the reader of Ray's own autoscaler; field names are those of KubeRay's ``raycluster_types.go``."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster = json.loads(json.dumps(manifest("RayCluster", "plasticbench")))
    cluster["metadata"]["namespace"] = "plasticbench"
    assert cluster["spec"].keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["spec"]["headGroupSpec"].keys() == {"serviceType", "rayStartParams", "template"}
    worker_fields = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert all(group.keys() == worker_fields for group in cluster["spec"]["workerGroupSpecs"])
    kinds = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    resources = {name: kind["resources"] for name, kind in kinds.items()}
    assert resources["headgroup"]["CPU"] == 0
    assert resources["cpu"] == {"CPU": 8, "memory": 32 << 30}
    assert resources["gpu"] == {"CPU": 8, "GPU": 1, "memory": 64 << 30}


def test_the_image_and_kubernetes_name_the_ray_version_of_the_lock() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert f"ray=={manifest('RayCluster', 'plasticbench')['spec']['rayVersion']}\n" in lock


def test_no_pod_runs_as_root_or_may_become_it() -> None:
    assert len(pods()) == 5
    for name, template in pods():
        assert template["spec"]["securityContext"]["runAsNonRoot"], name
        (container,) = template["spec"]["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert re.findall(r"^USER (.+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE) == ["1000"]


def test_services_are_not_exposed_outside_the_kubernetes_cluster() -> None:
    assert all(one["spec"].get("type", "ClusterIP") == "ClusterIP" for one in MANIFESTS if one["kind"] == "Service")
    assert not any(one["kind"] == "Ingress" for one in MANIFESTS)
    assert ray_groups()["head"]["serviceType"] == "ClusterIP"
