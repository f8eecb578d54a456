"""The Serve application: `serve run serve.app:build bundle=runs/NAME`."""

import os
import secrets
from collections.abc import Mapping
from typing import Any, cast

import ray
from ray import serve
from ray.serve.config import BackpressureConfig

from cluster.cpus import available_cpus
from serve import keys, scenarios
from serve.access_log import LOG_KEY
from serve.config import ONE_THREAD, ServeArgs
from serve.ranking import RankingReplica
from serve.retrieval import RetrievalReplica
from train.bundle.bundle import check

# Seconds after which to try again where no replica has room.
RETRY_AFTER = 1


def build(args: ServeArgs) -> serve.Application:
    """Return the application, for Ray's own commands; see `application`.

    Args:
        args: settings; keys it does not know are refused.

    Raises:
        BundleError: the bundle cannot be opened.
    """
    return application(args, {})


def application(args: ServeArgs, marks: Mapping[str, str]) -> serve.Application:
    """Return the application: one or two deployments over the same stages.

    A folder of a run is pinned to its newest bundle here, once: replicas that start later, after a
    crash or to scale, open the same version.

    Args:
        args: settings.
        marks: further environment variables of the replicas.

    Raises:
        BundleError: the bundle cannot be opened.
        ValueError: the file of scenarios cannot be read.
    """
    pinned = {"bundle": check(args.bundle)[0], "replicas": _replicas(args)}
    args = args.model_copy(update=pinned)
    if args.keys is not None:
        keys.read(args.keys)
    rules = {} if args.scenarios is None else scenarios.read(args.scenarios)
    define: Any = serve.deployment(**_options(args, marks))
    ingress = define(serve.ingress()(RetrievalReplica)).options(name="retrieval")
    if args.topology == "split":
        ranking = define(RankingReplica).options(name="ranking")
        second = ranking.bind(args.bundle)
        return cast(serve.Application, ingress.bind(args, second, rules))
    return cast(serve.Application, ingress.bind(args, None, rules))


def _options(args: ServeArgs, marks: Mapping[str, str]) -> dict[str, Any]:
    cpus, replicas = _cluster_cpus(), args.max_replicas or _replicas(args)
    deployments = 2 if args.topology == "split" else 1
    share = args.cpus or min(0.4, 0.8 * cpus / (replicas * deployments))
    drawn = os.environ.get(LOG_KEY) or secrets.token_hex(16)
    variables = {**ONE_THREAD, LOG_KEY: drawn, **marks}
    if args.access_log:
        # In its throughput mode Ray Serve keeps a thousand lines before it writes one.
        variables["RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE"] = "1"
    return {
        **_numbers(args),
        "max_ongoing_requests": args.max_ongoing,
        "max_queued_requests": args.max_queued,
        "backpressure_config": BackpressureConfig(retry_after_s=RETRY_AFTER),
        "ray_actor_options": {"num_cpus": share, "runtime_env": {"env_vars": variables}},
        # Ours says more than Ray Serve's.
        "logging_config": {
            "enable_access_log": False,
            "encoding": "JSON" if args.access_log else "TEXT",
            "logs_dir": args.logs,
        },
    }


def _numbers(args: ServeArgs) -> dict[str, Any]:
    """Return how many replicas there are: so many, or as many as requests need."""
    if args.max_replicas is None:
        return {"num_replicas": _replicas(args)}
    bounds = {"min_replicas": _replicas(args), "max_replicas": args.max_replicas}
    target: dict[str, Any] = {"target_ongoing_requests": args.target_ongoing}
    return {"autoscaling_config": bounds | target}


def _replicas(args: ServeArgs) -> int:
    first = max(1, int(_cluster_cpus())) if args.max_replicas is None else 1
    return args.replicas or first


def _cluster_cpus() -> float:
    if ray.is_initialized():
        return float(ray.cluster_resources().get("CPU", 1.0))
    return float(available_cpus())
