"""`python -m cluster start | status | stop | submit`: Ray on this machine, and jobs on any."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.extras import subcommand_cli_from_dict

from cluster import head, jobs, token
from cluster.cli import run, split
from cluster.status import show
from cluster.verbosity import product_version


def start(
    address: str | None = None,
    host: str | None = None,
    port: int = head.PORT,
    dashboard_port: int = head.DASHBOARD_PORT,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
) -> None:
    """Start a Ray head on this machine, or add this machine to a Ray that runs elsewhere.

    Args:
        address: HOST:PORT of a head to join as a worker, instead of starting one.
        host: address of this machine. A head listens there, on 127.0.0.1 by default; other
            machines can reach anything else. A worker takes the one that leads to the head.
        port: port of a head; 0 takes a free one.
        dashboard_port: port of its dashboard, which also takes jobs; 0 takes a free one.
        num_cpus: CPUs to offer; all by default.
        num_gpus: GPUs to offer; all by default.
    """
    if address is None:
        node = head.start_head(host or head.LOOPBACK_HOST, port, dashboard_port, num_cpus, num_gpus)
        print(f"head at {node.address}, dashboard at {node.dashboard}")
        print("the commands of this checkout find it; for Ray's own:\n  " + head.shell(node))
        print(token.hand_over(node.address, head.for_others(node)))
    elif (port, dashboard_port) != (head.PORT, head.DASHBOARD_PORT):
        raise ValueError("--port and --dashboard-port are a head's; with --address, none")
    else:
        node = head.start_worker(address, host, num_cpus, num_gpus)
        print(f"joined {node.address}")
    print("stop it with: python -m cluster stop")


def stop(purge: bool = False) -> None:
    """Stop the nodes that `start` started on this machine, and no other Ray.

    Args:
        purge: delete their logs too, and those of earlier nodes.
    """
    stopped = head.stop(purge)
    print("\n".join(f"stopped {node.address}" for node in stopped) or "nothing was running")
    if kept := head.sessions():
        print(f"logs stay in {kept[-1] / 'logs'}; to delete all: python -m cluster stop --purge")


def main(arguments: list[str]) -> int | None:
    """Run one subcommand; `submit` sends what stands after `--`."""
    own, rest = split(arguments)
    command = rest[1:]
    if "--version" in own:
        print(product_version())
        return 0

    def submit(
        address: str | None = None,
        wait: bool = True,
        with_files: Annotated[
            tuple[Path, ...], tyro.conf.arg(name="with"), tyro.conf.UseAppendAction
        ] = (),
    ) -> int:
        """Run a command on a cluster: submit [--address ...] -- python -m train fit RUN.toml.

        Args:
            address: HOST:PORT of the head or URL of its dashboard; else RAY_ADDRESS, else the head
                started on this machine.
            wait: show the output until the end, and exit as the command does.
            with_files: a file or folder to ship besides what git tracks, where the job finds it by
                the same path in the checkout, or by its name; once for each.
        """
        return jobs.submit(command, address, wait, with_files)

    commands: dict[str, Callable[..., Any]] = {
        "start": start,
        "status": show,
        "stop": stop,
        "submit": submit,
    }
    code: int | None = subcommand_cli_from_dict(
        commands, prog="python -m cluster", description=__doc__, args=own
    )
    return code


if __name__ == "__main__":
    run(main)
