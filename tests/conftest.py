"""What every test may use: settings made before anything imports Ray, and one local Ray."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from cluster import environment
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from cluster.session import Session
    from tests.browser import Browser

# Before the first import of Ray: it reads these once, and the processes it starts inherit them.
os.environ.update(
    # Each report with a checkpoint waits for one of these intervals (seconds; Ray's default is 2).
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2",
    # Serve keeps a stopped replica for this long (seconds; Ray's default is 30).
    RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="1",
    RAY_TRAIN_V2_ENABLED="1",
    RAY_USAGE_STATS_ENABLED="0",
)
# Two libraries with a pool of threads each are slower on few cores than one thread each; a run with
# other kernels (tests/kernels.sh) says itself how many.
os.environ.setdefault("OMP_NUM_THREADS", "1")
environment.calm_openmp()
# A test decides itself which Ray it joins, and sees no head that runs on this machine: neither the
# shell that runs the suite nor what its user has started has a say.
for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
    os.environ.pop(name, None)
os.environ["RAYTOWER_RAY_DIR"] = tempfile.mkdtemp(prefix="rt-", dir="/tmp")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="cache-")
os.environ.update(PATIENCE)
# A process less for every group of workers: nobody takes the machine of a test away.
os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
# On a machine that does other work too, the time that examples take says nothing.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
for name in ("RAYTOWER_RAY_DIR", "XDG_CACHE_HOME"):
    atexit.register(shutil.rmtree, os.environ[name], ignore_errors=True)
# A shell has what it starts in the background ignore Ctrl-C, and so does all that this starts in
# turn; but tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
NO_BROWSER = "no Chromium here; apt-get install chromium chromium-driver"


@pytest.fixture(scope="session")
def local_ray() -> "Iterator[Session]":
    """One Ray of 4 logical CPUs on loopback, for all that this process tests."""
    from cluster.session import connect

    yield connect("local", num_cpus=4)
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """A headless Chromium, for all pages that this process tests."""
    from tests.browser import CHROMIUM, DRIVER, chromium

    if not (CHROMIUM and DRIVER):
        pytest.skip(NO_BROWSER)
    with chromium() as started:
        yield started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` or `hnsw` where there is no CUDA device or no hnswlib."""
    marked = {name: [i for i in items if i.get_closest_marker(name)] for name in ("gpu", "hnsw")}
    if marked["gpu"]:
        import torch

        if not torch.cuda.is_available():
            _skip(marked["gpu"], "needs a CUDA device; this machine has none")
    if find_spec("hnswlib") is None:
        _skip(marked["hnsw"], "needs hnswlib, which was not built here: apt-get install g++")


def _skip(items: list[pytest.Item], reason: str) -> None:
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Say last, but for the line that counts, what was not tested for want of a browser."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    pages = sum(NO_BROWSER in str(report.longrepr) for report in skipped)
    if pages:
        terminalreporter.write_line(f"{pages} tests of pages were not run: {NO_BROWSER}")
