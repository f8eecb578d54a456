"""`python -m cluster status`: nodes, jobs and applications of a Ray, from any of its nodes."""

import logging
import os
import subprocess
from collections.abc import Iterator
from typing import Any

from cluster import head, token
from cluster.nodes import nodes, running


def show(address: str | None = None) -> int:
    """Show a Ray: its nodes, what is in use, jobs, applications, where logs and metrics are.

    Args:
        address: HOST:PORT of its head; else RAY_ADDRESS, else the Ray of the node that was started
            on this machine.
    """
    target = address or os.environ.get("RAY_ADDRESS") or running()
    if target is None:
        raise ValueError("no head runs here; start one: python -m cluster start")
    head.check_answers(target)
    for node in nodes():
        what = node.dashboard or "(a worker)"
        print(f"started here: {node.address} {what} (process {node.pid})", flush=True)
    head.prepare_to_join(target)
    words = [*head.RAY, "status", "--address", target]
    if code := subprocess.run(words, check=False).returncode:
        return code
    with token.explained(target):
        print("\n".join(_sections(target)))
    return 0


def _sections(target: str) -> Iterator[str]:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.dashboard.utils import ray_address_to_api_server_url

    client = GcsClient(address=target)
    dashboard = ray_address_to_api_server_url(target)
    yield f"\ndashboard: {dashboard}"
    yield from ("jobs:", *_jobs(dashboard))
    yield from ("applications:", *_applications(dashboard))
    yield from ("nodes, with logs and Prometheus metrics:", *_nodes(client))


def _jobs(dashboard: str) -> list[str]:
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.ERROR)
    # What a user submitted; drivers without a submission have no command.
    found = [job for job in JobSubmissionClient(dashboard).list_jobs() if job.submission_id]
    found.sort(key=lambda job: job.start_time or 0)
    return [f"  {job.submission_id}  {job.status}  {job.entrypoint}" for job in found] or ["  none"]


def _applications(dashboard: str) -> list[str]:
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    found: dict[str, Any] = ServeSubmissionClient(dashboard).get_serve_details()["applications"]
    return [f"  {name}  {one['status']}  {one['route_prefix']}" for name, one in found.items()] or [
        "  none"
    ]


def _nodes(client: Any) -> Iterator[str]:
    session = client.internal_kv_get(b"session_name", namespace=b"session").decode()
    for node in client.get_all_node_info().values():
        if node.state == 0:  # alive
            logs = f"{node.node_manager_hostname}:{node.temp_dir}/{session}/logs"
            host = node.node_manager_address
            yield f"  {host}  {logs}  http://{host}:{node.metrics_export_port}/metrics"
