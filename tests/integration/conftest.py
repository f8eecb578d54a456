"""A copy of the checkout for what runs the commands of the README and of docs/."""

from pathlib import Path

import pytest

from tests.documents import copy_checkout, execute


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
