"""Machines to test on: network namespaces on one network, each with a home, a name and addresses.

Their host names are 127.0.1.1, as Debian has it. What they share is one folder.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import BOUND, PATIENCE, wait_until

ROOT = Path(__file__).parents[1]
NETWORK = "10.213.77"
# What `ip` is told: a switch in the first machine, and a cable to it from each of the others.
FIRST = """
netns add {name}
-n {name} link set lo up
-n {name} link add switch type bridge
-n {name} addr add {address}/24 dev switch
-n {name} link set switch up
"""
OTHER = """
netns add {name}
-n {name} link set lo up
link add {name} type veth peer name {name}s
link set {name}s netns {first}
-n {first} link set {name}s master switch
-n {first} link set {name}s up
link set {name} netns {name}
-n {name} addr add {address}/24 dev {name}
-n {name} link set {name} up
"""
# A name of its own, which is nobody else's address, and a folder that is not what others see there.
ENTER = 'hostname "$1"; mount --bind "$2" /etc/hosts; mount -t tmpfs none "$3"; shift 3; exec "$@"'


class NoMachinesError(RuntimeError):
    """Network namespaces cannot be made here."""


def environ(folder: str, token: str) -> dict[str, str]:
    """The shell of a user who has never started Ray: own folder, own token, no other setting.

    But for Ray's patience, which the machine may need.
    """
    own = {name: os.environ[name] for name in ("PATH", "HOME", *PATIENCE) if name in os.environ}
    return {**PATIENCE, **own} | {"RAYTOWER_RAY_DIR": folder, "RAY_AUTH_TOKEN_PATH": token}


class Machine:
    """A network namespace with a home, a host name and a folder for Ray of its own."""

    def __init__(self, name: str, address: str, folder: Path, unseen: str) -> None:
        self.name, self.address = name, address
        self.shared, self.home = folder / "shared", folder / name
        self.home.mkdir()
        self.unseen = self.shared / unseen
        self.unseen.mkdir(parents=True, exist_ok=True)
        self.hosts = self.home / "hosts"
        self.hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        ray = self.home / "ray"
        ray.mkdir(mode=0o700)
        self.env = environ(str(ray), "") | {"HOME": str(self.home)}
        del self.env["RAY_AUTH_TOKEN_PATH"]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` there, or `python -m WORDS` where the first is no flag."""
        return subprocess.run(
            self.words(*words),
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
            process = subprocess.Popen(self.words(*words), cwd=ROOT, env=self.env, **output)  # type: ignore[call-overload]
            read = Path(log.name).read_text
            try:
                wait_until(lambda: said in read() or process.poll() is not None, said)
                assert process.poll() is None, read()
                yield
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(BOUND) == 0, read()

    def words(self, *words: str) -> list[str]:
        """Return the command that runs `python WORDS` there; see `run`."""
        enter = ["ip", "netns", "exec", self.name, "unshare", "-m", "-u", "sh", "-c", ENTER, "sh"]
        apart = [self.name, str(self.hosts), str(self.unseen)]
        module = () if words[0].startswith("-") else ("-m",)
        return [*enter, *apart, sys.executable, *module, *words]

    def kill(self) -> None:
        """End all that runs there, as a machine that loses its power."""
        told = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        for pid in told.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Make so many machines; the first has nodes that others join, and all see `shared`.

    Raises:
        NoMachinesError: they cannot be made, for the reason that it gives.
    """
    if os.getuid() or not (shutil.which("ip") and shutil.which("unshare")):
        raise NoMachinesError("network namespaces take root, ip and unshare")
    names = [f"rt{'abcdefgh'[number]}{os.getpid()}" for number in range(count)]
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        made = []
        try:
            for number, name in enumerate(names):
                address = f"{NETWORK}.{number + 1}"
                _connect(OTHER if number else FIRST, name, names[0], address)
                unseen = "apart" if number else "nothing"
                made.append(Machine(name, address, Path(folder), unseen))
            yield made
            for machine in reversed(made):
                machine.run("cluster", "stop")
        finally:
            for name in names:
                subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _connect(lines: str, name: str, first: str, address: str) -> None:
    for line in lines.format(name=name, first=first, address=address).strip().splitlines():
        done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoMachinesError(f"network namespaces are not permitted here: {done.stderr}")
