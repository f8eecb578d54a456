"""Two machines: from `cluster start` to a bundle that was trained by one worker on each."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.bundles import write_bundle
from tests.integration.test_cluster import RUN
from tests.machines import NETWORK, Machine, NoMachinesError
from tests.machines import machines as make_machines
from tests.node_matrix import fit
from train.bundle.bundle import check

HEAD, OTHER = f"{NETWORK}.1", f"{NETWORK}.2"


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    with contextlib.ExitStack() as stack:
        try:
            first, second = stack.enter_context(make_machines(2))
        except NoMachinesError as error:
            pytest.skip(str(error))
        yield first, second


def test_a_service_answers_another_machine_at_one_port(machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    bundle = write_bundle(first.shared / "planted", users=40, items=80)
    asked = f"import urllib.request as r; print(r.urlopen('http://{HEAD}:8200/healthz').read())"
    flags = (f"--host={HEAD}", "--port=8200", "--replicas=1", "--no-keys")
    with first.running("serving bundle", "serve", str(bundle), *flags):
        answer = second.run("-c", asked)
        assert "ready" in answer.stdout, answer.stderr
        told = subprocess.run(
            ["ip", "netns", "exec", first.name, "ss", "-tlnH"], capture_output=True, text=True
        )
    places = {line.split()[3] for line in told.stdout.splitlines()}
    own = ("127.", "[::1]", "[::ffff:127.")
    assert {place for place in places if not place.startswith(own)} == {f"{HEAD}:8200"}


@pytest.fixture(scope="module")
def joined(machines: tuple[Machine, Machine]) -> tuple[Machine, Machine]:
    """Both as one Ray, by what `start` says."""
    first, second = machines
    head = first.run("cluster", "start", f"--host={HEAD}", "--num-cpus=1")
    assert head.returncode == 0, head.stderr
    said = re.search(r"scp \S+:(\S+) ~/(\S+) ", head.stdout)
    assert said
    join = ["cluster", "start", f"--address={HEAD}:6379", "--num-cpus=1"]
    assert join[2].replace("=", " ") in head.stdout
    refused = second.run(*join)
    assert refused.returncode == 2
    assert f"this machine has no token for the Ray at {HEAD}:6379" in refused.stderr
    # None was made instead.
    token = second.home / said[2]
    assert not token.exists()
    token.parent.mkdir(mode=0o700)
    token.write_text("f" * 64)
    refused = second.run(*join)
    assert refused.returncode == 2
    assert f"error: the Ray at {HEAD}:6379 expects another token" in refused.stderr
    shutil.copy(said[1], token)
    done = second.run(*join)
    assert done.returncode == 0, done.stderr
    return first, second


def test_status_works_on_both(joined: tuple[Machine, Machine]) -> None:
    for machine in joined:
        done = machine.run("cluster", "status")
        assert done.returncode == 0, done.stderr
        for address, there in zip((HEAD, OTHER), joined, strict=True):
            assert f"  {address}  {there.name}:{there.home}/ray/" in done.stdout
            assert f"  http://{address}:" in done.stdout


def test_a_worker_on_each_trains_together(joined: tuple[Machine, Machine]) -> None:
    file = joined[0].shared / "run.toml"
    file.write_text(RUN + "workers = 2\n")
    runs = joined[0].shared / "runs"
    done = joined[0].run("train", "fit", str(file), "--storage", str(runs), "--no-page")
    assert done.returncode == 0, done.stderr[-3000:]
    _, manifest = check(str(runs / "run"))
    assert manifest["config"]["train"]["workers"] == 2


def test_a_node_that_does_not_see_the_storage_is_named(joined: tuple[Machine, Machine]) -> None:
    file, apart = joined[0].shared / "apart.toml", joined[0].shared / "apart"
    file.write_text(RUN + "workers = 2\n")
    done = joined[0].run("train", "fit", str(file), "--storage", str(apart), "--no-page")
    assert done.returncode == 2, done.stderr[-3000:]
    node = f"error: node {OTHER} ({joined[1].name}) does not see {apart} as this machine does"
    assert node in done.stderr


def test_a_node_that_does_not_see_a_bundle_is_named(joined: tuple[Machine, Machine]) -> None:
    bundle = joined[0].shared / "apart" / "run"
    shutil.copytree(joined[0].shared / "runs" / "run", bundle)
    done = joined[0].run("serve", str(bundle), f"--address={HEAD}:6379")
    assert done.returncode == 2, done.stderr[-3000:]
    assert f"error: node {OTHER} ({joined[1].name}) does not see {bundle}" in done.stderr


def test_workers_wait_for_a_node_that_joins_late(joined: tuple[Machine, Machine]) -> None:
    first, second = joined
    code, _, said = fit(first, 3, [], None)
    assert code == 2
    assert "3 workers with 1 CPU each do not fit" in said
    assert "where nodes are still to join, set train.wait = true" in said

    def late(log: str) -> bool:
        if "asked for: 3 workers with 1 CPU each" not in log:
            return False
        done = second.run("cluster", "start", f"--address={HEAD}:6379", "--num-cpus=1")
        assert done.returncode == 0, done.stderr
        return True

    code, _, said = fit(first, 3, ["--train.wait"], late)
    assert code == 0, said[-3000:]
    _, manifest = check(str(first.shared / "runs" / "killed"))
    assert manifest["config"]["train"]["workers"] == 3
