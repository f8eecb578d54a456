"""Who may import whom, read from the source: the table of packages, and where Ray may be imported.

cluster -> nothing of ours; train -> cluster; tune -> train, cluster; serve -> train, cluster.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "cluster": {"cluster"},
    "train": {"train", "cluster"},
    "tune": {"tune", "train", "cluster"},
    "serve": {"serve", "train", "cluster"},
}
# In `train`, only what starts workers knows Ray.
TRAIN_WITH_RAY = {"train.workers", "train.embed_text"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {
    module_name(path): path.read_text()
    for package in MAY_IMPORT
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Yield module and line of each import of a source, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in MAY_IMPORT:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


def top(module: str) -> str:
    return module.split(".")[0]


def forbidden(package: str, source: str) -> list[str]:
    """Return what a source in `package` imports and may not, as `module (line n)`."""
    ours = MAY_IMPORT.keys() - MAY_IMPORT[package]
    return [
        f"{module} (line {line})"
        for module, line in imports(source)
        if top(module) in ours or module.startswith(".")
    ]


def bare(source: str) -> list[int]:
    """Return lines with `import train` or `import train.x`, for all of ours.

    Beside `import ray.train` it reads as the same thing, and it binds the name of a whole package.
    """
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        and any(top(alias.name) in MAY_IMPORT for alias in node.names)
    ]


def reach(module: str, sources: dict[str, str]) -> dict[str, str]:
    """Return all that a module of ours imports, over any number of steps, and who imports it."""
    found: dict[str, str] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        for target, _ in imports(sources.get(name, "")):
            if target not in found:
                found[target] = name
                todo.append(target)
    return found


def imports_ray(modules: dict[str, str]) -> list[str]:
    return [f"{who} imports {target}" for target, who in modules.items() if top(target) == "ray"]


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_imports_only_the_packages_it_may(name: str) -> None:
    assert forbidden(top(name), SOURCES[name]) == []


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


@pytest.mark.parametrize("name", [n for n in SOURCES if top(n) == "serve"])
def test_serve_imports_nothing_of_train_that_imports_ray(name: str) -> None:
    of_train = [module for module, _ in imports(SOURCES[name]) if top(module) == "train"]
    assert [imports_ray({module: name} | reach(module, SOURCES)) for module in of_train] == [
        [] for _ in of_train
    ]


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("cluster", "from train.schema import Tables"),
        ("train", "from serve.app import build"),
        ("train", "def f():\n    from tune.search import search"),
        ("serve", "from tune.spaces import Space"),
        ("tune", "import serve.app"),
        ("train", "from .schema import Tables"),
        ("cluster", "from train import schema"),
    ],
)
def test_a_planted_import_against_the_table_is_found(package: str, line: str) -> None:
    assert len(forbidden(package, line)) == 1


@pytest.mark.parametrize("line", ["import train", "import train.x as x", "import ray, serve.app"])
def test_a_planted_bare_import_is_found(line: str) -> None:
    assert bare(line) == [1]
    assert bare("import ray.train\nfrom train.x import y") == []


def test_ray_is_found_behind_a_chain_of_imports() -> None:
    sources = {"train.b": "from train.c import x", "train.c": "def f():\n    import ray.train"}
    for line in ("from train.b import x", "from train import b"):
        found = imports_ray(reach("train.a", sources | {"train.a": line}))
        assert found == ["train.c imports ray.train"]
