"""A head on this machine with token authentication; jobs on it, by our commands and Ray's own."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cluster.session import Session, connect, scaling
from tests.machines import ROOT, environ
from tests.waiting import BOUND, wait_until
from train.bundle.bundle import check
from train.report.text import render

STARTS = ("driv", "work", "cpus", "file")
TOKEN = "0123456789abcdef" * 4
# Run as a job: our code is importable on the driver and on a worker, from what was shipped alone.
SHIPPED = """
import os, ray, train.core.schema
from cluster.session import connect, scaling
session = connect()
@ray.remote
def work():
    import train.core.schema
    return train.core.schema.__file__
print("driver", train.core.schema.__file__)
print("worker", ray.get(work.remote()))
print("cpus", session.cpus, session.started, scaling(2).resources_per_worker)
print("files", *sorted(os.listdir()))
"""


def run(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )


class Head:
    """A head started by `python -m cluster start`, and the shells that know of it."""

    def __init__(self, env: dict[str, str], said: str) -> None:
        self.env = env
        settings = re.search(r"export (.*)", said)
        assert settings
        self.for_ray = env | dict(word.split("=", 1) for word in settings[1].split())
        self.address = self.for_ray["RAY_ADDRESS"]
        self.pid = int((Path(env["RAYTOWER_RAY_DIR"]).glob("node-*.json").__next__()).stem[5:])
        self.dashboard = self.for_ray["RAY_API_SERVER_ADDRESS"]
        self.said = said


@pytest.fixture(scope="module")
def started() -> Iterator[Head]:
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        token = Path(folder) / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        env = environ(folder, str(token))
        done = run("cluster", "start", "--port=0", "--dashboard-port=0", "--num-cpus=2", env=env)
        assert done.returncode == 0, done.stderr
        yield Head(env, done.stdout)
        stopped = run("cluster", "stop", env=env)
        assert stopped.stdout.startswith("stopped 127.0.0.1:")
        # Logs are what stays of a session, until they are not wanted either.
        kept = re.search(r"logs stay in (\S+);", stopped.stdout)
        assert kept
        session = Path(kept[1]).parent
        assert [path.name for path in session.iterdir()] == ["logs"]
        assert list((session / "logs").glob("gcs_server*"))
        assert run("cluster", "stop", "--purge", env=env).stdout == "nothing was running\n"
        assert not session.exists()


def shows(env: dict[str, str], *parts: str) -> bool:
    """Return whether `status` says all of this."""
    done = run("cluster", "status", env=env)
    assert done.returncode == 0, done.stderr
    return all(part in done.stdout for part in parts)


def test_status_shows_the_head(started: Head) -> None:
    # Ray's monitor makes its first report some seconds later.
    parts = (f"started here: {started.address}", "0.0/2.0 CPU")
    wait_until(lambda: shows(started.env, *parts), "the head and its resources")
    logs, metrics = re.search(
        r"^  127\.0\.0\.1  \S+?:(/\S+)  (http://127\.0\.0\.1:\d+/metrics)$",
        run("cluster", "status", env=started.env).stdout,
        re.MULTILINE,
    ).groups()  # type: ignore[union-attr]
    assert list(Path(logs).glob("gcs_server*"))
    assert "ray_" in httpx.get(metrics, timeout=BOUND).text


def test_start_says_where_the_token_lies_and_what_rays_commands_need(started: Head) -> None:
    assert f"its token: {started.env['RAY_AUTH_TOKEN_PATH']} " in started.said
    assert started.for_ray["RAY_DASHBOARD_ADDRESS"] == started.dashboard


def test_files_of_a_head_are_for_their_owner_alone(started: Head) -> None:
    folder = Path(started.env["RAYTOWER_RAY_DIR"])
    for path in folder.glob("node-*.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    # Ray opens the folder of its sessions to everybody: it lies in one that is not open.
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.parent.name for path in folder.rglob("session_2*")} == {"ray"}


def listening(pid: int) -> set[str]:
    """Return the addresses that a process and all that it started listen at."""
    process = psutil.Process(pid)
    found = set()
    for one in [process, *process.children(recursive=True)]:
        # Those of a moment may be over.
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {
                connection.laddr.ip.removeprefix("::ffff:")
                for connection in one.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    return found


def test_it_listens_on_loopback_alone(started: Head) -> None:
    assert listening(started.pid) == {"127.0.0.1"}


def test_a_ray_of_this_process_listens_on_loopback_alone(local_ray: Session) -> None:
    assert local_ray.address.startswith("127.0.0.1:")
    assert listening(os.getpid()) == {"127.0.0.1"}


def test_jobs_need_the_token(started: Head) -> None:
    jobs = f"{started.dashboard}/api/jobs/"
    assert httpx.get(jobs, timeout=BOUND).status_code == 401
    token = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(jobs, headers=token, timeout=BOUND).status_code == 200


RUN = """
reranker = "none"
[data]
name = "generated"
users = 300
items = 100
interactions = 6000
[train]
epochs = 1
batch_size = 256
"""


def test_ray_job_submit_trains_from_the_checkout(started: Head, tmp_path: Path) -> None:
    file, storage = tmp_path / "job.toml", tmp_path / "runs"
    file.write_text(RUN, encoding="utf-8")
    fit = ["python", "-m", "train", "fit", str(file), "--storage", str(storage), "--name", "job"]
    words = ["job", "submit", "--working-dir", ".", "--", *fit]
    done = run("ray.scripts.scripts", *words, env=started.for_ray)
    assert done.returncode == 0, done.stdout + done.stderr
    # What the job has said is what the bundle holds.
    _, manifest = check(str(storage / "job"))
    assert manifest["config"]["data"]["users"] == 300
    for line in render(manifest).splitlines():
        assert line in done.stdout
    assert "no reranker: the configuration asks for none" in done.stdout


def test_our_submit_runs_our_code_from_the_checkout(started: Head, tmp_path: Path) -> None:
    data = tmp_path / "events.csv"
    data.write_text("1,2")
    words = ["--with", str(data), "--", "python", "-c", SHIPPED]
    done = run("cluster", "submit", *words, env=started.env)
    assert done.returncode == 0, done.stdout + done.stderr
    check_shipped(done.stdout)
    assert "events.csv" in done.stdout
    job = re.search(r"^job (raysubmit_\w+) at 127\.0\.0\.1:\d+\n$", done.stderr, re.MULTILINE)
    assert job
    assert shows(started.env, f"  {job[1]}  SUCCEEDED  python -c")


def test_a_job_says_on_which_machine_a_file_is_missing(started: Head) -> None:
    words = ["python", "-m", "train", "inspect", "/nowhere/run.toml"]
    done = run("cluster", "submit", "--", *words, env=started.env)
    assert done.returncode == 2
    assert "/nowhere/run.toml" in done.stdout
    assert f"(on {socket.gethostname()}, where this job runs" in done.stdout


def check_shipped(said: str) -> None:
    found = dict(line.split(" ", 1) for line in said.splitlines() if line[:4] in STARTS)
    assert "/working_dir_files/_ray_pkg_" in found["driver"]
    assert found["worker"] == found["driver"]
    assert found["cpus"] == "2.0 False {'CPU': 1}"
    names = set(found["files"].split())
    assert {"cluster", "train", "tune", "serve", "pyproject.toml"} <= names
    assert names.isdisjoint({".git", ".venv", "runs", "data", ".mypy_cache"})


def test_our_submit_exits_as_the_job_does(started: Head) -> None:
    words = ["python", "-c", "print('it is', 'over'); raise SystemExit(3)"]
    done = run("cluster", "submit", "--address", started.dashboard, "--", *words, env=started.env)
    assert done.returncode == 3
    assert "it is over" in done.stdout


def test_ctrl_c_ends_the_waiting_and_not_the_job(started: Head) -> None:
    code = "import signal; print('at', 'work', flush=True); signal.pause()"
    waiting = subprocess.Popen(
        [sys.executable, "-m", "cluster", "submit", "--", "python", "-c", code],
        cwd=ROOT,
        env=started.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stdout and waiting.stderr
    assert any("at work" in line for line in waiting.stdout)
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=BOUND)[1]
    assert waiting.returncode == 130
    assert "no longer waiting; the job goes on" in said
    commands = re.findall(r"^  (follow|ask|stop) +ray (.*)$", said, flags=re.MULTILINE)
    ask, stop = (dict(commands)[name].split() for name in ("ask", "stop"))
    assert "RUNNING" in run("ray.scripts.scripts", *ask, env=started.for_ray).stdout
    assert run("ray.scripts.scripts", *stop, env=started.for_ray).returncode == 0
    assert "was stopped" in run("ray.scripts.scripts", *ask, env=started.for_ray).stdout


def test_another_token_is_refused_with_what_to_do(started: Head, tmp_path: Path) -> None:
    other = tmp_path / "token"
    other.write_text("f" * 64)
    env = started.env | {"RAY_AUTH_TOKEN_PATH": str(other), "RAY_NUM_REDIS_GET_RETRIES": "1"}
    for address in (started.address, started.dashboard):
        done = run("cluster", "submit", "--address", address, "--", "true", env=env)
        assert done.returncode == 2
        assert f"error: the Ray at {address} expects another token" in done.stderr
    code = f"from cluster.session import connect; connect({started.address!r})"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert f"PermissionError: the Ray at {started.address} expects another token" in done.stderr


def test_a_second_head_is_refused(started: Head) -> None:
    done = run("cluster", "start", env=started.env)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: a node of {started.address} is running; stop it first")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        env = environ(str(tmp_path), "unused")
        done = run("cluster", "start", f"--port={port}", env=env)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: cannot listen at 127.0.0.1:{port} (Address already in use); choose another port: "
        "--port N, or --port 0 for any that is free\n"
    )


def test_a_loopback_head_takes_no_other_machine(started: Head) -> None:
    done = run("cluster", "start", "--address", started.address, env=started.env)
    assert done.returncode == 2
    assert "is for this machine alone" in done.stderr


def test_others_join_a_head_that_is_opened_to_them_and_stop_ends_both(
    tmp_path: Path, local_ray: Session
) -> None:
    import ray

    token = tmp_path / "token"
    token.write_text(TOKEN)
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        env = environ(folder, str(token))
        # Any address of this machine but the one that Ray holds for local.
        opened = ["--host=127.0.0.3", "--port=0", "--dashboard-port=0", "--num-cpus=1"]
        first = run("cluster", "start", *opened, env=env)
        assert first.returncode == 0, first.stderr
        address = re.findall(r"head at (\S+),", first.stdout)[0]
        second = run("cluster", "start", "--address", address, "--num-cpus=1", env=env)
        assert second.returncode == 0, second.stderr
        # A head tells of a node that joined some seconds later.
        wait_until(lambda: shows(env, "0.0/2.0 CPU"), "both nodes")
        assert folder in commands_that_run()
        stopped = run("cluster", "stop", env=env)
        assert stopped.stdout.startswith(f"stopped {address}\n" * 2 + "logs stay in ")
        wait_until(lambda: folder not in commands_that_run(), "the end of both nodes")
    # Another Ray of the same machine and user goes on.
    assert ray.get(ray.put(1)) == 1


def commands_that_run() -> str:
    return " ".join(str(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"]))


@pytest.mark.usefixtures("local_ray")
def test_a_ray_of_one_process_takes_no_port_that_another_would_wait_for() -> None:
    import ray

    assert ray.nodes()[0]["DashboardAgentListenPort"] not in (0, 52365)


def test_what_a_ray_can_never_give_is_refused(local_ray: Session) -> None:
    assert connect().address == local_ray.address
    assert scaling(3).resources_per_worker == {"CPU": 1}
    assert scaling(3).num_workers == 3
    assert scaling(9, wait=True).num_workers == 9
    with pytest.raises(ValueError, match="5 workers with 1 CPU each do not fit") as caught:
        scaling(5)
    assert "the nodes of this Ray have 4 CPU, 0 GPU, which is room for 4" in str(caught.value)
    with pytest.raises(ValueError, match="1 workers with 1 CPU and 1 GPU each do not fit"):
        scaling(1, gpu=True)
    with pytest.raises(ValueError, match="1 workers with 5 CPU"):
        scaling(1, cpus=5)
    with pytest.raises(ValueError, match="expected 0 workers"):
        scaling(-1)


def test_no_workers_is_the_loop_in_this_process() -> None:
    assert scaling(0).num_workers == 0
