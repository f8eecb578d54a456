"""Ray jobs: a command submitted to a cluster together with this checkout."""

import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import shipping, token
from cluster.head import check_answers, prepare_to_join
from cluster.nodes import running

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def submit(
    command: Sequence[str],
    address: str | None = None,
    wait: bool = True,
    with_files: Sequence[Path] = (),
) -> int:
    """Run a command on a cluster with this checkout as its folder, and stream its output.

    Ctrl-C ends the waiting, not the job. What travels: see `shipping.checkout`.

    Args:
        command: the words of the command; `python` is the cluster's.
        address: `host:port` of the head or URL of its dashboard; else `RAY_ADDRESS`, else the head
            that was started on this machine.
        wait: False returns once the job is accepted.
        with_files: travel besides what git tracks.

    Returns:
        the command's exit code; 1 if the job failed without one or was stopped.

    Raises:
        ValueError: there is no command, no cluster to send it to, or too much to ship.
        ConnectionError: nothing answers at the address.
        PermissionError: the head expects another token.
    """
    if not command:
        raise ValueError("expected a command after --: submit -- python -m train fit RUN.toml")
    target = _target(address)
    client = _client(target)
    with shipping.checkout(with_files) as runtime_env:
        job = client.submit_job(entrypoint=shlex.join(command), runtime_env=runtime_env)
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
    with token.explained(target):
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
