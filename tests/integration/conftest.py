"""A copy of the checkout for what runs the pages' commands, and the folder of a small sweep."""

from pathlib import Path

import pytest

from tests.documents import copy_checkout, execute
from tests.sweeps import RUN, SWEEP


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with a shop's files and the pages' TOML files."""
    return copy_checkout(tmp_path_factory.mktemp("pages") / "raytower")


@pytest.fixture(scope="module")
def trained(checkout: Path) -> Path:
    """Such a copy with the bundle that the README trains, here in one process and in short."""
    short = "--train.workers 0 --reranker.kinds.catboost.iterations 20 --no-page"
    execute(f".venv/bin/python -m train fit shop.toml {short}", checkout)
    return checkout


@pytest.fixture
def sweep_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: object) -> Path:
    """The working folder, with the files of a small sweep; Ray runs."""
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(RUN)
    Path("sweep.toml").write_text(SWEEP)
    return tmp_path
