"""A real browser for the tests of pages: headless Chromium, and what it met on a page."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from tests.waiting import BOUND

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# Chromium itself asks for nothing; what is asked for is the page's doing.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document).then(found => done(found.violations));
"""
IMAGES = "return [...document.images].map(i => [i.alt, i.complete && i.naturalWidth])"
CLIPPED = """
return [...document.querySelectorAll(".scroll, table, figure, ul, p, h1, h2")]
    .filter(part => part.scrollWidth > part.clientWidth + 1)
    .map(part => part.innerText.slice(0, 60))
"""
TOO_WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@dataclass(frozen=True)
class Met:
    """What the browser met on a page.

    Attributes:
        images: natural width of each, by what it shows; 0 or false where it is broken.
        asked: schemes and hosts that anything was fetched from.
        errors: lines of its console that are no mere remarks.
        clipped: how parts begin that are wider than their place, and have to be scrolled in it.
        too_wide: pixels by which the page is wider than the window.
        text: that a reader sees.
    """

    images: dict[str, Any]
    asked: set[str]
    errors: list[str]
    clipped: list[str]
    too_wide: int
    text: str


class Browser:
    """Opens pages, in a window of a size."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str, *, shows: str = "body", width: int = 1280) -> Met:
        """Open a page, wait until something matches the selector `shows`, and look at it."""
        driver = self._driver
        driver.set_window_size(width, 1000)
        driver.get("about:blank")
        for log in ("browser", "performance"):
            driver.get_log(log)  # reading it empties it
        driver.get(url)
        found = WebDriverWait(driver, BOUND).until(
            lambda d: d.find_elements("css selector", shows), f"{shows} at {url}"
        )
        assert found[0].is_displayed()
        return Met(
            images=dict(driver.execute_script(IMAGES)),
            asked={f"{part.scheme}://{part.netloc}" for part in map(urlsplit, self._requests())},
            errors=[line["message"] for line in driver.get_log("browser") if _bad(line)],
            clipped=driver.execute_script(CLIPPED),
            too_wide=driver.execute_script(TOO_WIDE),
            text=driver.find_element("css selector", "body").text,
        )

    def emulate(self, *, dark: bool = False, width: int | None = None) -> None:
        """Prefer dark colours from now on, or light ones, and be as narrow as a telephone."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        if width is None:
            self._driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            return
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def look(self, script: str) -> Any:
        """Return what a script returns on the page that is open."""
        return self._driver.execute_script(script)

    def type(self, selector: str, text: str) -> None:
        """Put the focus on an element and press keys."""
        element = self._driver.find_element("css selector", selector)
        element.clear()
        element.send_keys(text)

    def press(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        self._driver.switch_to.active_element.send_keys(*keys)

    def wait(self, script: str) -> Any:
        """Wait until a script returns something true, and return it."""
        return WebDriverWait(self._driver, BOUND).until(lambda d: d.execute_script(script), script)

    def picture(self, path: str) -> None:
        """Save what the window shows as PNG."""
        self._driver.save_screenshot(path)

    def errors(self) -> list[str]:
        """Return the lines of the console, since it was read last, that are no mere remarks."""
        return [line["message"] for line in self._driver.get_log("browser") if _bad(line)]

    def faults(self) -> list[str]:
        """Return what axe has to say of the page that is open: what shuts some people out."""
        self._driver.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text())
        found = self._driver.execute_async_script(AXE)
        return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found]

    def _requests(self) -> Iterator[str]:
        for line in self._driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                yield message["params"]["request"]["url"]


def _bad(line: dict[str, Any]) -> bool:
    return line["level"] not in ("INFO", "DEBUG")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium with an empty profile; it ends with the context."""
    options = Options()
    options.binary_location = CHROMIUM or ""
    for flag in QUIET:
        options.add_argument(flag)
    # Certificates of tests are signed by nobody.
    options.accept_insecure_certs = True
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    driver.set_page_load_timeout(BOUND)
    driver.set_script_timeout(BOUND)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
