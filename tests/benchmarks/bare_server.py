"""The reference for `serve_start.py`: Ray Serve with as many replicas, which answer a word."""

import argparse
import os
import signal
import threading
from typing import Any

from cluster import local, session
from cluster.cpus import available_cpus
from serve.config import Process, environment


class Bare:
    """Answers a word."""

    async def __call__(self, request: object) -> str:
        """Return it."""
        return "here"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    local.folder()
    os.environ |= environment(Process.model_validate({"port": port}), local.haproxy_folder())
    session.connect("local")

    import ray
    from ray import serve

    serve.start(http_options={"port": port})
    define: Any = serve.deployment(
        num_replicas=max(1, available_cpus()), ray_actor_options={"num_cpus": 0.4}
    )
    serve.run(define(Bare).bind())
    ended = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
