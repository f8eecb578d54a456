"""The definitions of a cluster and of an installation name the same versions."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from serve.config import ServeArgs
from serve.telemetry import COUNTED, GAUGES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)
KUBERNETES = ROOT / "cluster" / "kubernetes"
KUSTOMIZED = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())
DEFINITIONS = {
    one["kind"]: one
    for name in KUSTOMIZED["resources"]
    for one in yaml.safe_load_all((KUBERNETES / "base" / name).read_text())
}
SERVICE = DEFINITIONS["RayService"]["spec"]
CLUSTERS = [DEFINITIONS["RayCluster"]["spec"], SERVICE["rayClusterConfig"]]
JOBS = {path.stem: path for path in sorted((KUBERNETES / "jobs").glob("*.yaml"))}


OURS = {"cluster", "train", "tune", "serve", "tests"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_within_its_range() -> None:
    pins = {normal(name): version for name, version in PINS.items()}
    extras = PROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, chain(PROJECT["dependencies"], *extras)):
        assert Version(pins[normal(requirement.name)]) in requirement.specifier, requirement


# They run in another Python, which has what it is that they measure.
ELSEWHERE = ("rectools_server.py", "recbole_server.py")


def imported(*folders: str) -> set[str]:
    """Return the top names of all that the Python files of some folders import."""
    nodes = [
        node
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in ELSEWHERE
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - OURS


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("cluster", "train", "tune", "serve"), ("hnsw", "mlflow", "onnx", "text")),
        (("tests",), ("dev",)),
    ],
    ids=["packages", "tests"],
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    chosen = [PROJECT["optional-dependencies"][extra] for extra in extras]
    declared = {normal(Requirement(line).name) for line in chain(PROJECT["dependencies"], *chosen)}
    packages = packages_distributions()
    undeclared = {
        name
        for name in imported(*folders)
        if declared.isdisjoint(map(normal, packages.get(name, [name])))
    }
    assert undeclared == set()


def test_pins_work_on_every_index_of_wheels() -> None:
    assert PINS["torch"] == "2.13.0"
    assert [name for name, version in PINS.items() if "+" in version] == []


def test_the_licence_is_the_declared_one() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]
    assert (
        "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    )


def test_kubernetes_gets_a_cluster_for_jobs_and_a_service() -> None:
    kinds = {kind: one["apiVersion"] for kind, one in DEFINITIONS.items()}
    assert kinds == {
        "RayCluster": "ray.io/v1",
        "RayService": "ray.io/v1",
        "NetworkPolicy": "networking.k8s.io/v1",
        "PodMonitor": "monitoring.coreos.com/v1",
    }
    [image] = KUSTOMIZED["images"]
    assert image["newTag"] == PINS["ray"] and image["newName"].endswith("/raytower")


@pytest.mark.parametrize("name", JOBS)
def test_jobs_on_kubernetes_run_commands_that_there_are(name: str) -> None:
    job = yaml.safe_load(JOBS[name].read_text())
    spec = job["spec"].get("jobTemplate", job["spec"])
    assert job["kind"] == ("RayCronJob" if name == "nightly" else "RayJob")
    cluster = DEFINITIONS["RayCluster"]["metadata"]["name"]
    assert spec["clusterSelector"] == {"ray.io/cluster": cluster}
    assert yaml.safe_load(spec["runtimeEnvYAML"])["working_dir"].endswith(".zip")
    commands = re.findall(r"python -m [^&']+", spec["entrypoint"])
    assert commands
    for command in commands:
        _, _, package, *words = command.split()
        asked = {word for word in words if word.startswith("--")}
        # With a run file, `fit --help` lists the keys of a run.
        file = ["demo"] if words[0] == "fit" else []
        words = [package, *([] if package == "tune" else words[:1]), *file, "--help"]
        said = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert asked <= set(re.findall(r"--[a-z][a-z-]*", said.stdout)), command


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
@pytest.mark.parametrize("name", ["base", "incremental-upgrade"])
def test_kustomize_puts_the_definitions_together(name: str) -> None:
    words = ["kubectl", "kustomize", str(KUBERNETES / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert made.keys() == DEFINITIONS.keys()
    assert f"/raytower:{PINS['ray']}" in done.stdout and "image: raytower" not in done.stdout
    assert ("upgradeStrategy" in made["RayService"]["spec"]) == (name != "base")


@pytest.mark.parametrize("cluster", CLUSTERS, ids=["cluster", "service"])
def test_kubernetes_runs_the_pinned_ray_with_tokens(cluster: dict[str, Any]) -> None:
    assert cluster["rayVersion"] == PINS["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == KUSTOMIZED["images"][0]["name"]
        assert container["envFrom"] == [
            {"secretRef": {"name": "raytower-storage", "optional": True}}
        ]
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_image_starts_from_the_pinned_ray() -> None:
    said = (ROOT / "cluster" / "image.Dockerfile").read_text()
    assert f"ARG RAY=docker.io/rayproject/ray:{PINS['ray']}-py311-cpu\nFROM ${{RAY}}\n" in said
    # The one with CUDA, too.
    versions = re.findall(r"rayproject/ray:([\d.]+)-py311-(cpu|gpu)", said)
    assert {*versions} == {(PINS["ray"], "cpu"), (PINS["ray"], "gpu")}


def test_kubernetes_serves_what_the_checkout_serves() -> None:
    config = yaml.safe_load(SERVICE["serveConfigV2"])
    own = yaml.safe_load((ROOT / "serve" / "serve.yaml").read_text())
    (application,), (expected,) = config["applications"], own["applications"]
    for key in ("name", "import_path", "route_prefix"):
        assert application[key] == expected[key]
    # Beyond loopback it needs keys, which every container has to see.
    more = {"keys", "replicas", "max_replicas"}
    assert application["args"].keys() == {*expected["args"], *more}
    ServeArgs.model_validate(application["args"])
    place = Path(application["args"]["keys"]).parent
    groups = [CLUSTERS[1]["headGroupSpec"], *CLUSTERS[1]["workerGroupSpecs"]]
    for spec in (group["template"]["spec"] for group in groups):
        [mounted], [volume] = spec["containers"][0]["volumeMounts"], spec["volumes"]
        assert (mounted["mountPath"], mounted["name"]) == (str(place), volume["name"])
    assert application["runtime_env"]["working_dir"].endswith(".zip")


def of_our_metrics(text: str) -> set[str]:
    """Return the names of our metrics in a text, as Ray tells them to Prometheus."""
    return {name.removeprefix("ray_") for name in re.findall(r"ray_raytower_\w+", text)}


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yml"])
def test_dashboard_and_alerts_ask_for_metrics_that_there_are(name: str) -> None:
    asked = of_our_metrics((ROOT / "serve" / "monitoring" / name).read_text())
    counted = {f"{of}_total" for of in COUNTED}
    histograms = {f"raytower_{of}_seconds_bucket" for of in ("request", "stage")}
    assert asked and asked <= counted | histograms | set(GAUGES)


def test_the_documentation_names_every_metric() -> None:
    text = (
        (ROOT / "docs" / "monitoring.md").read_text().replace("..._", "ray_raytower_first_score_")
    )
    named = of_our_metrics(text)
    assert {*GAUGES, *(f"{of}_total" for of in COUNTED)} <= named


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    board = json.loads((ROOT / "serve" / "monitoring" / "grafana.json").read_text())
    assert board["title"] and board["uid"] and board["schemaVersion"] >= 36
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][of] for of in "xywh") for panel in panels]
    assert all(x + w <= 24 for x, _, w, _ in places)
    assert all(panel["targets"] and panel["title"] for panel in panels)
    variables = {of["name"] for of in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used - {"__rate_interval"} <= variables


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_promtool_takes_the_alerts() -> None:
    words = ["promtool", "check", "rules", str(ROOT / "serve" / "monitoring" / "alerts.yml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
