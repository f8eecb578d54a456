"""The definitions of a cluster and of an installation name the same versions."""

import ast
import re
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

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)
DEFINITIONS = list(yaml.safe_load_all((ROOT / "cluster" / "kuberay.yaml").read_text()))
CLUSTERS = [one["spec"].get("rayClusterConfig", one["spec"]) for one in DEFINITIONS]


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
    assert [one["kind"] for one in DEFINITIONS] == ["RayCluster", "RayService"]
    assert {one["apiVersion"] for one in DEFINITIONS} == {"ray.io/v1"}


@pytest.mark.parametrize("cluster", CLUSTERS, ids=["cluster", "service"])
def test_kubernetes_runs_the_pinned_ray_with_tokens(cluster: dict[str, Any]) -> None:
    assert cluster["rayVersion"] == PINS["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].endswith(f"/raytower:{PINS['ray']}")
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_image_starts_from_the_pinned_ray() -> None:
    said = (ROOT / "cluster" / "image.Dockerfile").read_text()
    assert f"FROM rayproject/ray:{PINS['ray']}-py311-cpu" in said


def test_kubernetes_serves_what_the_checkout_serves() -> None:
    config = yaml.safe_load(DEFINITIONS[1]["spec"]["serveConfigV2"])
    own = yaml.safe_load((ROOT / "serve" / "serve.yaml").read_text())
    (application,), (expected,) = config["applications"], own["applications"]
    for key in ("name", "import_path", "route_prefix"):
        assert application[key] == expected[key]
    assert application["args"].keys() == expected["args"].keys()
    assert application["runtime_env"]["working_dir"].endswith(".zip")
