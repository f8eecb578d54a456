"""Two machines, each a network namespace whose host name is 127.0.1.1, as Debian has it.

From `cluster start` to a bundle that was trained by one worker on each.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import write_bundle
from tests.integration.test_cluster import ROOT, RUN, environ
from tests.waiting import BOUND, wait_until
from train.bundle.bundle import check

HEAD, OTHER = "10.213.77.1", "10.213.77.2"
# What `ip` is told: a cable between two machines.
CABLE = """
netns add {a}
netns add {b}
link add {a} type veth peer name {b}
link set {a} netns {a}
link set {b} netns {b}
-n {a} addr add 10.213.77.1/24 dev {a}
-n {b} addr add 10.213.77.2/24 dev {b}
-n {a} link set {a} up
-n {b} link set {b} up
-n {a} link set lo up
-n {b} link set lo up
"""
# A name of its own, which is nobody else's address, and a folder that is not what others see there.
ENTER = 'hostname "$1"; mount --bind "$2" /etc/hosts; mount -t tmpfs none "$3"; shift 3; exec "$@"'


class Machine:
    """A network namespace with a home, a host name and a folder for Ray of its own."""

    def __init__(self, name: str, folder: Path, unseen: str) -> None:
        self.name, self.shared, self.home = name, folder / "shared", folder / name
        self.home.mkdir()
        self.unseen = self.shared / unseen
        self.unseen.mkdir(parents=True)
        self.hosts = self.home / "hosts"
        self.hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        ray = self.home / "ray"
        ray.mkdir(mode=0o700)
        self.env = environ(str(ray), "") | {"HOME": str(self.home)}
        del self.env["RAY_AUTH_TOKEN_PATH"]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` there, or `python -m WORDS` where the first is no flag."""
        return subprocess.run(
            self._words(*words),
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )

    @contextlib.contextmanager
    def running(self, said: str, *words: str) -> Iterator[None]:
        """Run it until it says something, and stop it by Ctrl-C in the end."""
        with tempfile.NamedTemporaryFile("w+") as log:
            output = {"stdout": log, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(self._words(*words), cwd=ROOT, env=self.env, **output)  # type: ignore[call-overload]
            read = Path(log.name).read_text
            try:
                wait_until(lambda: said in read() or process.poll() is not None, said)
                assert process.poll() is None, read()
                yield
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(BOUND) == 0, read()

    def _words(self, *words: str) -> list[str]:
        enter = ["ip", "netns", "exec", self.name, "unshare", "-m", "-u", "sh", "-c", ENTER, "sh"]
        apart = [self.name, str(self.hosts), str(self.unseen)]
        module = () if words[0].startswith("-") else ("-m",)
        return [*enter, *apart, sys.executable, *module, *words]


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    names = {"a": f"rta{os.getpid()}", "b": f"rtb{os.getpid()}"}
    if os.getuid() or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("network namespaces take root, ip and unshare")
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        try:
            for line in CABLE.format(**names).strip().splitlines():
                done = subprocess.run(["ip", *line.split()], capture_output=True, text=True)
                if done.returncode:
                    pytest.skip(f"network namespaces are not permitted here: {done.stderr}")
            first = Machine(names["a"], Path(folder), unseen="nothing")
            second = Machine(names["b"], Path(folder), unseen="apart")
            yield first, second
            for machine in (second, first):
                machine.run("cluster", "stop")
        finally:
            for name in names.values():
                subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


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
