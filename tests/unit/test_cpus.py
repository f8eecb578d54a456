"""Thread counts follow affinity and a container's limit, not the machine's cores."""

import os
from pathlib import Path

import pytest

from cluster.cpus import available_cpus
from tests.cgroups import inside, said

COUNT = "from cluster.cpus import available_cpus; print(available_cpus())"


def test_it_is_at_least_one_and_at_most_the_machines() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's affinity")
def test_a_process_bound_to_one_cpu_has_one() -> None:
    bound = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    used = (
        "import tempfile, pathlib, contextlib, torch\n"
        "from cluster import haproxy\n"
        "from serve.app import _cluster_cpus\n"
        "from train.trainer.workers import _threads\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    made = haproxy.environment(pathlib.Path(folder))\n"
        "torch.set_num_threads(2)\n"
        "with _threads(0):\n"
        "    print(made['RAY_SERVE_HAPROXY_NBTHREAD'], _cluster_cpus(), torch.get_num_threads())\n"
    )
    assert said(bound + COUNT) == "1"
    assert said(bound + used) == "1 1.0 1"


def _v1(quota: int) -> dict[str, str]:
    return {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        (_v1(100_000), 1),
        (_v1(50_000), 1),
        (_v1(-1), None),
        ({"nothing": ""}, None),
    ],
    ids=[
        "v2",
        "v2 a half",
        "v2 one and a half",
        "v2 none",
        "v1",
        "v1 a half",
        "v1 none",
        "neither",
    ],
)
def test_a_containers_limit_counts(
    files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    within = inside(files, tmp_path)
    # What the same process has where there is no limit.
    free = len(os.sched_getaffinity(0))
    assert said(COUNT, *within) == str(free if limit is None else min(limit, free))
