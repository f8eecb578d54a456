"""Settings of serving, and the environment variables with which Ray Serve is fast."""

import ipaddress
import os
import ssl
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cluster import haproxy
from cluster.haproxy_starter import HOST, PER_ADDRESS, RATE, TLS
from cluster.ports import try_port
from serve.keys import Scope
from train.core.settings import Settings

APPLICATION = "raytower"
PORT = 8000
Topology = Literal["fused", "split"]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Parallelism comes from processes; a pool of threads in each makes all of them slower."""


class ServeArgs(Settings):
    """Settings of the application; `serve run serve.app:build bundle=... topology=...` sets them.

    Attributes:
        bundle: a bundle's folder, a run's folder (its newest bundle) or the URI of either.
        topology: "split" gives each stage its own deployment, "fused" puts both into one, which
            saves a hop of some milliseconds a batch.
        replicas: number of replicas of each deployment; by default one for each CPU of the cluster.
        max_replicas: of each deployment, where their number is to follow the requests: it begins at
            `replicas`, one by default, and never goes below; by default it stays what it is. Not in
            throughput mode, in which Ray Serve sees too few of the requests that wait.
        target_ongoing: requests at a time that a replica is meant to have, where their number
            follows the requests.
        cpus: CPUs that a replica reserves; by default a share that lets all replicas fit, up to
            0.4.
        candidates: number of candidates from stage 1 to stage 2; by default as many as in training.
        max_k: maximum `k` of a request.
        max_body: maximum size of a request's body, bytes.
        max_history: items of a request's history that count, the newest; the answer says where it
            had more.
        read_timeout: seconds in which a body has to come.
        timeout_ms: milliseconds that a request waits and stage 2 may take, where it names no
            others; after them the answer is a lesser one, and says so in `degraded`.
        max_wait_ms: milliseconds that a request would wait for others, as the last ones took, from
            which on it gets 503 at once, where a batch of others waits already.
        max_batch: maximum number of requests in one micro-batch.
        max_ongoing: maximum number of concurrent requests of a replica.
        max_queued: maximum number of requests that wait for a replica; further ones get 503.
        access_log: log every request as a line of JSON: who asked (as a hash), what was answered,
            by which bundle, and how long each stage took.
        logs: folder of the replicas' log files, which every node has; by default they lie with
            those of Ray, and end with a Ray that was started for this service alone.
        keys: a file of API keys, which every node can read; `python -m serve keys` makes it. A
            change counts within a second. None lets everybody in.
        strangers: what requests may do where there is no file of keys.
        cors: origins whose pages may ask, such as https://shop.example; none by default.
        scenarios: a TOML file of named rules, which requests name by `scenario`.
    """

    bundle: str
    topology: Topology = "fused"
    replicas: int | None = Field(None, ge=1)
    max_replicas: int | None = Field(None, ge=1)
    target_ongoing: int = Field(32, ge=1)
    cpus: float | None = Field(None, gt=0)
    candidates: int | None = Field(None, ge=1)
    max_k: int = Field(1000, ge=1)
    max_body: int = Field(2**20, ge=1)
    max_history: int = Field(1000, ge=1)
    read_timeout: float = Field(10.0, gt=0)
    timeout_ms: int = Field(2000, ge=1)
    max_wait_ms: int = Field(100, ge=1)
    max_batch: int = Field(64, ge=1)
    max_ongoing: int = Field(256, ge=1)
    max_queued: int = Field(512, ge=1)
    access_log: bool = False
    logs: str | None = None
    keys: str | None = None
    strangers: Scope = "read"
    cors: tuple[str, ...] = ()
    scenarios: str | None = None

    @model_validator(mode="after")
    def _room_for_more_replicas(self) -> "ServeArgs":
        if self.max_replicas is not None and self.max_replicas < (self.replicas or 1):
            raise ValueError(
                f"max_replicas: expected {self.replicas or 1} (replicas) or more, got "
                f"{self.max_replicas}"
            )
        return self


class Process(Settings):
    """Settings of `python -m serve` itself: where to listen, and how Ray Serve is started.

    Attributes:
        host: address to listen on; 0.0.0.0 opens it to the network.
        port: to listen on.
        address: of a running Ray cluster to join; by default a local one is started.
        name: of the application. Several can be served side by side on one cluster: with a name of
            its own an application answers below /NAME.
        start_timeout: seconds that the application may take until it answers.
        haproxy: put HAProxy in front of the replicas instead of Ray's own proxy in Python.
        no_keys: let everybody ask who reaches an address beyond loopback, where there is no file
            of keys; such strangers see no paths, settings or traces.
        tls: a PEM file with a certificate, its chain and its key: HTTPS, TLS 1.2 or newer. With
            HAProxy alone.
        per_address: most connections of one address at a time; further ones are cut off. With
            HAProxy alone.
        rate: most requests a second of one address; further ones get 429. With HAProxy alone; by
            default there is no limit.
        tracing: write spans of OpenTelemetry, where this process starts Ray Serve: to files beside
            Ray's logs, or by the function that RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH names.
        metrics_port: on loopback, where Prometheus finds the metrics of a Ray that is started here;
            0 takes a free one.
        throughput: Ray Serve's throughput mode: user code, router and server in one event loop.
        request_metrics: count every request of HAProxy for Prometheus, which costs a Python
            callback a request.
    """

    host: str = "127.0.0.1"
    port: int = Field(PORT, ge=1, le=65535)
    address: str | None = None
    name: str = Field(APPLICATION, pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")
    start_timeout: float = Field(600.0, gt=0)
    haproxy: bool = True
    no_keys: bool = False
    tls: str | None = None
    per_address: int = Field(1000, ge=1)
    rate: int | None = Field(None, ge=1)
    tracing: bool = False
    metrics_port: int = Field(0, ge=0, le=65535)
    throughput: bool = True
    request_metrics: bool = False

    @property
    def prefix(self) -> str:
        """Of the application's routes."""
        return "/" if self.name == APPLICATION else f"/{self.name}"


def environment(process: Process, folder: Path) -> dict[str, str]:
    """Return the environment variables that have to be set before Ray starts.

    Args:
        process: settings of the server's process.
        folder: a fresh folder for HAProxy's files; a short path, because sockets lie in it.
    """
    switches = {
        # Seconds that a replica goes on for after it was told to stop; Ray's default is 30.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": str(int(process.throughput)),
        "RAY_SERVE_ENABLE_HA_PROXY": str(int(process.haproxy)),
    }
    if not process.haproxy:
        return switches
    listening = {HOST: process.host, PER_ADDRESS: str(process.per_address)}
    if process.tls is not None:
        listening[TLS] = str(Path(process.tls).resolve())
    if process.rate is not None:
        listening[RATE] = str(process.rate)
    return switches | listening | haproxy.environment(folder, process.request_metrics)


def checked(process: Process, args: ServeArgs) -> ServeArgs:
    """Return the settings of an application that this process serves.

    On loopback everybody is who started it, where there is no file of keys.

    Raises:
        ValueError: it would be open to strangers and nobody said so, or HAProxy, which is to do
            something, is not this process's.
    """
    loopback = process.host == "localhost" or ipaddress.ip_address(process.host).is_loopback
    if not loopback and args.keys is None and not process.no_keys:
        raise ValueError(
            f"--host {process.host} is open to the network: make keys (python -m serve keys add "
            "NAME) and give them with --keys keys.json, or say --no-keys"
        )
    if args.keys is not None and process.no_keys:
        raise ValueError("--keys and --no-keys: expected one of them")
    if args.max_replicas is not None and process.throughput and process.address == "local":
        raise ValueError(
            "--max-replicas needs --no-throughput: in throughput mode Ray Serve sees too few of "
            "the requests that wait to start further replicas"
        )
    for flag in ("tls", "rate"):
        if getattr(process, flag) is None:
            continue
        if not process.haproxy:
            raise ValueError(f"--{flag} is HAProxy's; leave --no-haproxy out")
        if process.address != "local":
            raise ValueError(
                f"--{flag} is set where HAProxy starts, with the Ray of {process.address}: set "
                f"RAYTOWER_HTTP_{flag.upper()} in the environment of `cluster start`"
            )
    if process.tls is not None:
        _check_certificate(process.tls)
    ours = loopback and process.address == "local"
    return args.model_copy(update={"strangers": "admin"}) if ours else args


def _check_certificate(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    except OSError as error:  # of which ssl's own is one
        reason = error.strerror or error
        raise ValueError(
            f"--tls {path}: expected a PEM file with a certificate and its key: {reason}"
        ) from None


def check_port(host: str, port: int) -> None:
    """Check that a server can listen there.

    Raises:
        ValueError: it cannot, because the port is in use or the address is not this machine's.
    """
    try:
        try_port(host, port)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; stop what "
            "listens there, or choose another port with --port"
        ) from None
