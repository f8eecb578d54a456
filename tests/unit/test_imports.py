"""Who may import whom, read from the source: packages by floors, and where Ray may be imported.

`cluster` imports nothing of ours; within `train` the table below holds, and the modules that make
up a run stand above all packages, one above the other; `tune` and `serve` stand on `train`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "train", "tune", "serve")
# What a package of `train` may import beside itself.
MAY_IMPORT = {
    "core": (),
    "ops": (),
    "metrics": ("core",),
    "data": ("core",),
    "index": ("core",),
    "datasets": ("core", "cluster"),
    "tracking": ("core", "cluster"),
    "losses": ("core", "ops"),
    # How many CPUs a process may use is asked of `cluster`.
    "baselines": ("core", "data", "index", "metrics", "cluster"),
    "rerankers": ("core", "ops", "data", "index", "metrics"),
    "towers": ("core", "ops", "data", "index", "baselines"),
    "sources": ("core", "data", "index", "baselines"),
    "recommender": ("core", "data", "index", "metrics", "rerankers", "sources"),
    "trainer": ("core", "ops", "data", "metrics", "losses", "towers", "cluster"),
    "evaluation": ("core", "data", "index", "metrics", "baselines", "rerankers", "recommender"),
    "bundle": (
        *("core", "data", "index", "rerankers", "sources", "towers", "recommender"),
        "cluster",
    ),
    "report": ("core", "data", "index", "metrics", "bundle", "recommender", "cluster"),
    "export": ("core", "towers", "recommender", "bundle", "cluster"),
}
# The modules of a run, each above those before it.
RUN = (
    "entries",
    "config",
    "flags",
    "run_files",
    "identity",
    "picks",
    "runs",
    "adapt",
    "memory",
    "inspect",
    "steps",
    "evaluate",
    "fit",
    "__main__",
)
SERVE = ("core", "data", "index", "recommender", "bundle", "config", "cluster")
# In `train`, only what starts workers knows Ray.
TRAIN_WITH_RAY = {"train.trainer.workers", "train.datasets.embed_text"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {
    module_name(path): path.read_text()
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
ROOMS = {name.split(".")[1] for name in SOURCES if name.count(".") > 1 and name[:6] == "train."}


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Yield module and line of each import of a source, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and top(node.module) in PACKAGES:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


def top(module: str) -> str:
    return module.split(".")[0]


def place(module: str) -> str:
    """Return the package of `train` that a module is in, or the module of a run that it is."""
    parts = module.split(".")
    return parts[1] if parts[0] == "train" and len(parts) > 1 else parts[0]


def allowed(importer: str, imported: str) -> bool:
    """Whether one module of ours may import another."""
    here, there, own, other = top(importer), top(imported), place(importer), place(imported)
    if here == "cluster":
        return there == "cluster"
    if here == "serve":
        # The demo is a driver: it reads the run of a bundle.
        return there == "serve" or other in SERVE
    if here == "tune":
        return there in ("tune", "train", "cluster")
    if importer == "train":  # its environment, before torch is imported
        return there == "cluster"
    if own in RUN:
        later = RUN[RUN.index(own) + 1 :]
        return there == "cluster" or (there == "train" and other not in later)
    return other == own or other in MAY_IMPORT.get(own, ())


def forbidden(importer: str, source: str) -> list[str]:
    """Return what a module of ours imports and may not, as `module (line n)`."""
    return [
        f"{module} (line {line})"
        for module, line in imports(source)
        if module.startswith(".") or (top(module) in PACKAGES and not allowed(importer, module))
    ]


def bare(source: str) -> list[int]:
    """Return lines with `import train` or `import train.x`, for all of ours.

    Beside `import ray.train` it reads as the same thing, and it binds the name of a whole package.
    """
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import) and any(top(alias.name) in PACKAGES for alias in node.names)
    ]


def reach(module: str, sources: dict[str, str]) -> dict[str, str]:
    """Return all that a module of ours imports, over any number of steps, and who imports it."""
    found: dict[str, str] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        # A name imported from a module stands for the module.
        owner = name if name in sources else name.rpartition(".")[0]
        for target, _ in imports(sources.get(owner, "")):
            if target not in found:
                found[target] = owner
                todo.append(target)
    return found


def imports_ray(modules: dict[str, str]) -> list[str]:
    return [f"{who} imports {target}" for target, who in modules.items() if top(target) == "ray"]


def test_every_package_of_train_is_in_the_table_and_there() -> None:
    assert set(MAY_IMPORT) == ROOMS
    modules = {name.split(".")[1] for name in SOURCES if name.count(".") == 1 and "train." in name}
    assert modules - ROOMS == set(RUN)


def test_the_table_has_no_circle() -> None:
    floors: dict[str, int] = {"cluster": 1}
    while len(floors) <= len(MAY_IMPORT):
        ready = {
            name: 1 + max([floors[below] for below in may], default=0)
            for name, may in MAY_IMPORT.items()
            if name not in floors and set(may) <= set(floors)
        }
        assert ready, f"a circle among {sorted(set(MAY_IMPORT) - set(floors))}"
        floors |= ready
    assert max(floors.values()) <= 7


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_imports_only_the_packages_it_may(name: str) -> None:
    assert forbidden(name, SOURCES[name]) == []


@pytest.mark.parametrize("name", SOURCES)
def test_ours_are_imported_by_from(name: str) -> None:
    assert bare(SOURCES[name]) == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=module_name)
def test_tests_import_ours_in_the_same_way(path: Path) -> None:
    assert bare(path.read_text()) == []


@pytest.mark.parametrize("name", [n for n in SOURCES if top(n) == "train"])
def test_in_train_only_what_starts_workers_imports_ray(name: str) -> None:
    direct = [module for module, _ in imports(SOURCES[name]) if top(module) == "ray"]
    assert name in TRAIN_WITH_RAY or direct == []


@pytest.mark.parametrize("name", [n for n in SOURCES if place(n) in ("core", "data", "index")])
def test_what_serving_loads_does_not_load_torch(name: str) -> None:
    loaded = [module for module, _ in imports(SOURCES[name]) if top(module) == "torch"]
    assert loaded == []


@pytest.mark.parametrize("name", [n for n in SOURCES if top(n) == "serve"])
def test_serve_imports_nothing_of_train_that_imports_ray(name: str) -> None:
    of_train = [module for module, _ in imports(SOURCES[name]) if top(module) == "train"]
    # The demo reads the settings of a run, as `python -m train` does; it is no replica.
    of_train = [module for module in of_train if place(module) != "config"]
    assert [imports_ray({module: name} | reach(module, SOURCES)) for module in of_train] == [
        [] for _ in of_train
    ]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cluster.head", "from train.core.schema import Tables"),
        ("train.core.schema", "from train.data.ids import IdMap"),
        ("train.recommender.ranking", "from train.bundle.bundle import Bundle"),
        ("train.losses.base", "from train.towers import base"),
        ("train.data.splits.base", "def f():\n    from train.towers.base import Tower"),
        ("train.towers.base", "from train.config import Run"),
        ("train.steps", "from train.fit import fit"),
        ("train.config", "from train import run_files"),
        ("train.fit", "from serve.app import build"),
        ("train.fit", "def f():\n    from tune.search import search"),
        ("serve.app", "from tune.space.ranges import Space"),
        ("serve.app", "from train.trainer.job import Job"),
        ("tune.search", "import serve.app"),
        ("train.core.schema", "from .settings import Settings"),
        ("cluster.jobs", "from train import config"),
    ],
)
def test_a_planted_import_against_the_table_is_found(module: str, line: str) -> None:
    assert len(forbidden(module, line)) == 1


@pytest.mark.parametrize("line", ["import train", "import train.x as x", "import ray, serve.app"])
def test_a_planted_bare_import_is_found(line: str) -> None:
    assert bare(line) == [1]
    assert bare("import ray.train\nfrom train.x import y") == []


def test_ray_is_found_behind_a_chain_of_imports() -> None:
    sources = {"train.b": "from train.c import x", "train.c": "def f():\n    import ray.train"}
    for line in ("from train.b import x", "from train import b"):
        found = imports_ray(reach("train.a", sources | {"train.a": line}))
        assert found == ["train.c imports ray.train"]
