"""The README's own commands, and what every page has to be: linked, true to the tree, short."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.documents import PAGES, ROOT, RUN_BY, Section, blocks, run, sections
from tests.unit.test_imports import MAY_IMPORT, SERVE
from train.bundle.bundle import open_bundle
from train.config import Run
from train.fit import fit
from train.losses import LOSSES
from train.sources.entries import SOURCES

PACKAGES = ("cluster", "train", "tune", "serve")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("section", sections("test_readme"), ids=str)
def test_commands_do_what_they_say(section: Section, checkout: Path) -> None:
    run(section, checkout)


def test_every_page_with_commands_is_run() -> None:
    with_commands = {page for page, text in PAGES.items() if blocks(text, "sh")}
    assert with_commands == {page for pages in RUN_BY.values() for page in pages}
    modules = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    assert RUN_BY.keys() <= modules


def test_the_readme_is_a_front_door() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 200
    assert PAGES.keys() - {target for target, _ in links("README.md")} == {"README.md"}


def test_docs_are_text_alone() -> None:
    assert {path.suffix for path in (ROOT / "docs").rglob("*") if path.is_file()} == {".md"}


def links(page: str) -> list[tuple[str, str]]:
    """Return each file that a page links to, from the root, and the anchor in it or ""."""
    found = []
    for target in LINK.findall(FENCE.sub("", PAGES[page])):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            place = (ROOT / page).parent / path if path else ROOT / page
            found.append((place.resolve().relative_to(ROOT).as_posix(), anchor))
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, anchor in links(page):
        assert (ROOT / target).exists(), target
        assert not anchor or anchor in anchors(PAGES[target]), f"{target}#{anchor}"


@pytest.mark.parametrize("top", PACKAGES)
def test_every_package_is_in_the_architecture_and_every_package_there_exists(top: str) -> None:
    named = re.findall(r"^\| `([a-z_/]+)/` \|", PAGES["docs/architecture.md"], re.MULTILINE)
    inside = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / top).glob("*/*.py")}
    assert top in named
    assert {top, *inside} == {name for name in named if name.split("/")[0] == top}


def test_the_architecture_tells_who_may_import_whom() -> None:
    rows = re.findall(r"^\| \d \| (.+?) \| (.+?) \|$", PAGES["docs/architecture.md"], re.MULTILINE)
    told = {
        package: set() if allowed == "nothing of ours" else set(re.findall(r"\w+", allowed))
        for packages, allowed in rows
        for package in re.findall(r"`(\w+)`", packages)
    }
    enforced = {package: set(allowed) for package, allowed in MAY_IMPORT.items()}
    assert {name: told.get(name) for name in enforced} == enforced
    assert told["serve"] == set(SERVE)


def test_a_loss_is_a_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "hinge", example("Hinge"))
    fitted = fit(short_run(tmp_path, loss={"name": "hinge", "margin": 0.5}, sources=["tower"]))
    assert Path(fitted, "manifest.json").is_file()


def test_a_source_is_a_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "best_rated", example("BestRatedSource"))
    sources = ["tower", {"name": "best_rated", "prior": 20}]
    bundle = open_bundle(fit(short_run(tmp_path, sources=sources)))
    assert list(bundle.manifest["contributions"]) == ["tower", "best_rated"]
    assert bundle.manifest["config"]["sources"][1]["prior"] == 20


def example(name: str) -> Any:
    """Return the class of an example of the page on extending."""
    [source] = [s for s in blocks(PAGES["docs/extending.md"], "python") if f"class {name}" in s]
    defined: dict[str, Any] = {}
    exec(compile(source, "extending.md", "exec"), defined)
    return defined[name]


def short_run(storage: Path, **changes: Any) -> Run:
    table: dict[str, Any] = {
        "data": {"name": "generated", "users": 60, "items": 30, "interactions": 900},
        "train": {"workers": 0, "threads": 1, "epochs": 1},
        "storage": str(storage),
        "reranker": "none",
        "page": False,
    }
    return Run.model_validate(table | changes)
