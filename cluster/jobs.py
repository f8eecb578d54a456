"""Ray jobs: a command submitted to a cluster together with this checkout."""

import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import environment
from cluster.head import check_answers, prepare_to_join, running

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

CHECKOUT = Path(__file__).parents[1]
# Files that no worker needs, besides those in .gitignore and .rayignore.
EXCLUDES = (".git", ".ci", ".venv", "venv", "/runs", "/data", ".*_cache", ".hypothesis")


def runtime_env() -> dict[str, Any]:
    """Return the runtime environment with which Ray ships this checkout to its workers (< 1 MB)."""
    # They would log every ignore file that they read.
    for name in ("packaging", "working_dir"):
        logging.getLogger(f"ray._private.runtime_env.{name}").setLevel(logging.ERROR)
    return {"working_dir": str(CHECKOUT), "excludes": [*EXCLUDES, "__pycache__"]}


def submit(command: Sequence[str], address: str | None = None, wait: bool = True) -> int:
    """Run a command on a cluster with this checkout as its folder, and stream its output.

    Ctrl-C ends the waiting, not the job.

    Args:
        command: the words of the command; `python` is the cluster's.
        address: `host:port` of the head or URL of its dashboard; else `RAY_ADDRESS`, else the head
            that was started on this machine.
        wait: False returns once the job is accepted.

    Returns:
        the command's exit code; 1 if the job failed without one or was stopped.

    Raises:
        ValueError: there is no command, or no cluster to send it to.
        ConnectionError: nothing answers at the address.
        PermissionError: the head expects another token.
    """
    if not command:
        raise ValueError("expected a command after --: submit -- python -m train fit RUN.toml")
    target = _target(address)
    client = _client(target)
    job = client.submit_job(entrypoint=shlex.join(command), runtime_env=runtime_env())
    print(f"job {job} at {target}", file=sys.stderr)
    if not wait:
        print(_later(job, target), file=sys.stderr)
        return 0
    try:
        asyncio.run(_show(client, job))
    except KeyboardInterrupt:
        print(f"\nno longer waiting; the job goes on\n{_later(job, target)}", file=sys.stderr)
        return 130
    return _result(client, job)


def _target(address: str | None) -> str:
    target = (
        address
        or os.environ.get("RAY_API_SERVER_ADDRESS")
        or os.environ.get("RAY_ADDRESS")
        or running()
    )
    if target is None:
        raise ValueError(
            "no cluster to submit to: start one here (python -m cluster start), "
            "or name one (--address HOST:PORT or RAY_ADDRESS)"
        )
    if "://" not in target:
        check_answers(target)
    return target


def _client(target: str) -> "JobSubmissionClient":
    prepare_to_join(target)
    # Ray lets this variable win over the address it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = target
    from ray.job_submission import JobSubmissionClient

    # They would log the upload and the socket that the output comes through.
    for name in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
    with environment.explained_token(target):
        return JobSubmissionClient(target)


async def _show(client: "JobSubmissionClient", job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _result(client: "JobSubmissionClient", job: str) -> int:
    details = client.get_job_info(job)
    if details.driver_exit_code:
        return int(details.driver_exit_code)
    if str(details.status) == "SUCCEEDED":
        return 0
    print(f"job {job}: {details.status}: {details.message}", file=sys.stderr)
    return 1


def _later(job: str, target: str) -> str:
    return "\n".join(
        f"  {what:<7} ray job {word} --address {target} {job}"
        for what, word in (("follow", "logs --follow"), ("ask", "status"), ("stop", "stop"))
    )
