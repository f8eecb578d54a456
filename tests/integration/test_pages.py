"""The pages that runs and sweeps write, in a real browser: from their file, without a network."""

from pathlib import Path

import pytest

from tests.browser import Browser
from tests.unit import test_page, test_tune_page
from train.report.page import write_page

NAMES = {"run": test_page.NAME, "sweep": test_tune_page.NAME}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run and of a sweep."""
    run, sweep = (tmp_path_factory.mktemp(name) for name in ("run", "sweep"))
    records = test_tune_page.sampled()
    test_tune_page.written(sweep, records, test_tune_page.TWO, best=3, lines=["Trial 3 is clear."])
    return {"run": Path(write_page(test_page.write(run))), "sweep": sweep / "report.html"}


@pytest.mark.parametrize("name", ["run", "sweep"])
@pytest.mark.parametrize("width", [1280, 500])
def test_a_page_shows_all_it_has_at_any_width(
    name: str, width: int, pages: dict[str, Path], browser: Browser
) -> None:
    met = browser.open(pages[name].as_uri(), shows="img", width=width)
    assert len(met.images) == {"run": 7, "sweep": 6}[name]
    assert all(met.images.values()), met.images
    assert met.asked <= {"file://", "data://"}
    assert met.errors == []
    assert met.too_wide <= 0
    assert met.text.startswith(NAMES[name])
    # On a narrow screen a table is scrolled, not the page.
    assert not met.clipped or width < 1000


@pytest.mark.parametrize("name", ["run", "sweep"])
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_shuts_nobody_out(
    name: str, dark: bool, pages: dict[str, Path], browser: Browser
) -> None:
    browser.emulate(dark=dark, width=390)
    try:
        met = browser.open(pages[name].as_uri(), shows="img")
        assert met.too_wide <= 0
        assert browser.faults() == []
        # Plots keep their size, and are scrolled.
        assert browser.look("return document.images[0].width") == 640
    finally:
        browser.emulate()
