"""How a service starts and ends: beside others, killed, hung up on, asked slowly."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.ports import free_ports
from cluster.session import Session
from tests.bundles import write_bundle
from tests.integration.test_serve_deploy import shell
from tests.serving import ROOT, command, family, refused
from tests.waiting import BOUND, PATIENCE, wait_until

__all__ = ["shell"]


@dataclass
class Started:
    """A process of `python -m serve`, and what it said."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until_ready(self) -> str:
        """Return the URL."""
        wait_until(
            lambda: "serving bundle" in self.said or self.process.poll() is not None, "the service"
        )
        found = re.search(r"serving bundle \S+ on (\S+)", self.said)
        assert found, self.said
        return found[1]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(BOUND)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles"), users=30, items=60)


@contextmanager
def started(log: Path, *words: object, env: dict[str, str]) -> Iterator[Started]:
    # Where the suite ignores SIGHUP (nohup), so would the service.
    hears = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    with log.open("wb") as output:
        streams: Any = {"stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command(*words), cwd=ROOT, env=env, preexec_fn=hears, **streams)
    try:
        yield Started(process, log)
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> dict[str, Any]:
    answer = httpx.post(f"{url}/recommend", json={"user_id": 1000, "k": 3}, timeout=BOUND)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refuses(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", timeout=BOUND)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:  # it is about to end
        return False
    return False


def is_gone(url: str) -> bool:
    """Whether nothing is there at a path, where others are at other paths."""
    try:
        return httpx.get(f"{url}/healthz", timeout=BOUND).status_code == 404
    except httpx.TransportError:
        return False


def test_applications_live_side_by_side_and_end_with_their_owner(
    shell: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    port, flags = free_ports(1)[0], ("--replicas", 1, "--cpus", 0.2)
    with ExitStack() as stack:

        def begin(number: int, *words: object) -> Started:
            log = tmp_path / f"{number}.log"
            return stack.enter_context(started(log, folder, *words, *flags, env=shell))

        first = begin(1, "--name", "first", "--port", port)
        one = first.wait_until_ready()
        assert one == f"http://127.0.0.1:{port}/first"
        second = begin(2)
        two = second.wait_until_ready()
        assert two == f"http://127.0.0.1:{port}"  # where Ray Serve listens already
        assert answers(one) == answers(two)
        assert httpx.get(f"{one}/docs", timeout=BOUND).status_code == 200

        third = begin(3, "--name", "first")
        assert third.process.wait(BOUND) == 2
        assert f"application 'first' of this cluster is served by process {first.process.pid}" in (
            third.said
        )
        assert answers(one)
        fourth = begin(4, "--name", "other", "--port", free_ports(1)[0])
        assert fourth.process.wait(BOUND) == 2
        assert f"Ray Serve of this cluster listens on 127.0.0.1:{port} already" in fourth.said

        first.end(signal.SIGKILL)
        again = begin(5, "--name", "first")
        assert again.wait_until_ready() == one
        assert f"taking over application 'first' of process {first.process.pid}" in again.said
        assert second.end(signal.SIGINT) == 0
        wait_until(lambda: is_gone(two), "the end of the second")
        assert answers(one)
        assert again.end(signal.SIGTERM) == 0
        wait_until(lambda: refuses(one), "the end of Ray Serve, which they started")


def own(mark: str) -> dict[str, str]:
    return os.environ | PATIENCE | {"RAYTOWER_TEST": mark}


def test_a_service_outlives_its_haproxy_and_nothing_outlives_the_service(
    folder: Path, tmp_path: Path
) -> None:
    port, mark = free_ports(1)[0], tmp_path.name + str(os.getpid())
    words = (folder, "--port", port, "--replicas", 1, "--per-address", 40)
    with started(tmp_path / "1.log", *words, env=own(mark)) as service:
        url = service.wait_until_ready()
        assert answers(url)
        assert httpx.get(f"{url}/nothing", timeout=BOUND).json() == {"detail": "Not Found"}
        hold_connections(url, port)

        before = haproxies(mark)
        assert len(before) == 1
        os.kill(before.pop(), signal.SIGKILL)
        # Nobody answers for a moment; what answers is right, and JSON where it is a refusal.
        wait_until(lambda: not refuses(url), "a stand-in")
        end = time.monotonic() + 2
        while time.monotonic() < end:
            response = httpx.post(f"{url}/recommend", json={"user_id": 1000}, timeout=BOUND)
            assert response.status_code == 200, response.text
        service.process.kill()
        service.process.wait()
    wait_until(lambda: not haproxies(mark), "the end of HAProxy")
    # What Ray itself leaves for a minute, the next start ends.
    with started(tmp_path / "2.log", *words, env=own(mark)) as service:
        assert answers(service.wait_until_ready())
        assert service.end(signal.SIGHUP) == 0
    wait_until(lambda: not list(family(mark)), "the end of all that it started")


def hold_connections(url: str, port: int) -> None:
    """Connect from another address without asking, more often than one may; others are answered."""
    with ExitStack() as stack:
        lines = []
        for _ in range(60):
            line = stack.enter_context(socket.socket())
            line.bind(("127.0.0.2", 0))
            line.connect(("127.0.0.1", port))
            with suppress(ConnectionError):
                line.sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n")
            lines.append(line)
        wait_until(lambda: sum(is_cut_off(line) for line in lines) >= 20, "20 cut off")
        assert answers(url)
        # A body that never comes, and a header that never ends, get 408 in the end.
        lines[0].sendall(b"\r\n{")
        lines[0].settimeout(BOUND)
        said = b"".join(iter(lambda: lines[0].recv(4096), b""))
        assert b" 408 " in said
        assert b'{"detail": "the request did not come in time"}' in said


def is_cut_off(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def haproxies(mark: str) -> set[int]:
    return {
        int(process.name)
        for process in family(mark)
        if b"-db\0-f" in (process / "cmdline").read_bytes()
        and b"haproxy_starter" not in (process / "cmdline").read_bytes()
    }


def test_a_start_that_is_interrupted_ends_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path.name + str(os.getpid())
    words = (folder, "--port", free_ports(1)[0], "--replicas", 1)
    with started(tmp_path / "1.log", *words, env=own(mark)) as service:
        wait_until(lambda: "loading the bundle" in service.said, "the start of the replicas")
        assert service.end(signal.SIGINT) == 130
        assert "interrupted" in service.said
        assert "Traceback" not in service.said
    wait_until(lambda: not list(family(mark)), "the end of all that it started")


def test_replicas_without_room_are_refused_at_once(folder: Path) -> None:
    said = refused(folder, "--port", free_ports(1)[0], "--replicas", 9999, "--cpus", 1)
    assert "9999 replicas with 1 CPUs each do not fit" in said
    assert "lower --replicas or --cpus" in said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_error_of_a_replica_is_said(local_ray: Session) -> None:
    from ray import serve

    from serve.starting import wait_until_ready

    class Fails:
        def __init__(self) -> None:
            raise KeyError("the table of prices")

    define: Any = serve.deployment(ray_actor_options={"num_cpus": 0.1})
    port = free_ports(1)[0]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run_many(
            [serve.RunTarget(define(Fails).bind(), name="fails", route_prefix="/fails")],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
        with pytest.raises(ValueError) as caught:
            wait_until_ready("fails", f"http://127.0.0.1:{port}/fails", BOUND)
        assert str(caught.value) == (
            "a replica cannot start: KeyError: 'the table of prices' (-v: more)"
        )
    finally:
        serve.shutdown()
