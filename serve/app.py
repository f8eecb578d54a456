"""The Serve application: `serve run serve.app:build bundle=runs/NAME`."""

from collections.abc import Mapping
from typing import Any, cast

import ray
from ray import serve
from ray.serve.config import BackpressureConfig

from cluster.cpus import available_cpus
from serve import scenarios
from serve.config import ServeArgs
from serve.http import RETRY_AFTER
from serve.ranking import RankingReplica
from serve.retrieval import RetrievalReplica
from train.bundle.bundle import check

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Parallelism comes from replicas; a pool of threads in each makes all of them slower."""


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
    args = args.model_copy(update={"bundle": check(args.bundle)[0]})
    rules = {} if args.scenarios is None else scenarios.read(args.scenarios)
    define: Any = serve.deployment(**_options(args, marks))
    ingress = define(serve.ingress()(RetrievalReplica)).options(name="retrieval")
    if args.topology == "split":
        ranking = define(RankingReplica).options(name="ranking")
        second = ranking.bind(args.bundle)
        return cast(serve.Application, ingress.bind(args, second, rules))
    return cast(serve.Application, ingress.bind(args, None, rules))


def _options(args: ServeArgs, marks: Mapping[str, str]) -> dict[str, Any]:
    cpus = _cluster_cpus()
    replicas = args.replicas or max(1, int(cpus))
    deployments = 2 if args.topology == "split" else 1
    share = args.cpus or min(0.4, 0.8 * cpus / (replicas * deployments))
    variables = {**ONE_THREAD, **marks}
    return {
        "num_replicas": replicas,
        "max_ongoing_requests": args.max_ongoing,
        "max_queued_requests": args.max_queued,
        "backpressure_config": BackpressureConfig(retry_after_s=RETRY_AFTER),
        "ray_actor_options": {"num_cpus": share, "runtime_env": {"env_vars": variables}},
        "logging_config": {"enable_access_log": args.access_log},
    }


def _cluster_cpus() -> float:
    if ray.is_initialized():
        return float(ray.cluster_resources().get("CPU", 1.0))
    return float(available_cpus())
