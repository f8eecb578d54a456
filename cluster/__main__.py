"""`python -m cluster start | status | stop | submit`: Ray on this machine, and jobs on any."""

import os
import subprocess
from collections.abc import Callable
from typing import Any

from tyro.extras import subcommand_cli_from_dict

from cluster import head, jobs
from cluster.cli import run, split
from cluster.verbosity import product_version


def start(
    address: str | None = None,
    host: str = head.LOOPBACK_HOST,
    port: int = head.PORT,
    dashboard_port: int = head.DASHBOARD_PORT,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
) -> None:
    """Start a Ray head on this machine, or add this machine to a Ray that runs elsewhere.

    Args:
        address: HOST:PORT of a head to join as a worker, instead of starting one.
        host: where a head listens; other machines can reach anything but 127.0.0.1.
        port: port of a head; 0 takes a free one.
        dashboard_port: port of its dashboard, which also takes jobs; 0 takes a free one.
        num_cpus: CPUs to offer; all by default.
        num_gpus: GPUs to offer; all by default.
    """
    if address is None:
        node = head.start_head(host, port, dashboard_port, num_cpus, num_gpus)
        print(f"head at {node.address}, dashboard at {node.dashboard}")
        print("the commands of this checkout find it; for Ray's own:\n  " + head.shell(node))
    elif (host, port, dashboard_port) != (head.LOOPBACK_HOST, head.PORT, head.DASHBOARD_PORT):
        raise ValueError("--host, --port and --dashboard-port are a head's; with --address, none")
    else:
        node = head.start_worker(address, num_cpus, num_gpus)
        print(f"joined {node.address}")
    print("stop it with: python -m cluster stop")


def status(address: str | None = None) -> int:
    """Show the nodes of a Ray and what is in use.

    Args:
        address: HOST:PORT of its head; else RAY_ADDRESS, else the head started on this machine.
    """
    target = address or os.environ.get("RAY_ADDRESS") or head.running()
    if target is None:
        raise ValueError("no head runs here; start one: python -m cluster start")
    head.check_answers(target)
    for node in head.nodes():
        print(f"started here: {node.address} {node.dashboard} (process {node.pid})", flush=True)
    head.prepare_to_join(target)
    return subprocess.run([*head.RAY, "status", "--address", target], check=False).returncode


def stop() -> None:
    """Stop the nodes that `start` started on this machine, and no other Ray."""
    stopped = head.stop()
    print("\n".join(f"stopped {node.address}" for node in stopped) or "nothing was running")


def main(arguments: list[str]) -> int | None:
    """Run one subcommand; `submit` sends what stands after `--`."""
    own, rest = split(arguments)
    command = rest[1:]
    if "--version" in own:
        print(product_version())
        return 0

    def submit(address: str | None = None, wait: bool = True) -> int:
        """Run a command on a cluster: submit [--address ...] -- python -m train fit RUN.toml.

        Args:
            address: HOST:PORT of the head or URL of its dashboard; else RAY_ADDRESS, else the head
                started on this machine.
            wait: show the output until the end, and exit as the command does.
        """
        return jobs.submit(command, address, wait)

    commands: dict[str, Callable[..., Any]] = {
        "start": start,
        "status": status,
        "stop": stop,
        "submit": submit,
    }
    code: int | None = subcommand_cli_from_dict(
        commands, prog="python -m cluster", description=__doc__, args=own
    )
    return code


if __name__ == "__main__":
    run(main)
