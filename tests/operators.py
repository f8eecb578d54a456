"""A service as its operators have it, for tests: TLS, keys, an access log, a port for metrics."""

import contextlib
import ipaddress
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.ports import free_ports
from serve.keys import Key, digest, write
from tests.bundles import write_bundle
from tests.serving import serving
from tests.waiting import BOUND
from train.bundle.bundle import open_bundle

READ, ADMIN, SLOW, OLD, LENT = (f"key-of-{name}" for name in ("read", "admin", "slow", "old", "x"))


@dataclass
class Service:
    url: str
    folder: Path
    certificate: Path
    metrics: str
    recommender: Any

    def client(self, key: str | None = READ) -> httpx.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(base_url=self.url, verify=trusted, headers=headers, timeout=BOUND)

    def logged(self) -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for file in (self.folder / "logs").glob("replica_*")
            for line in file.read_text().splitlines()
        ]
        return [line for line in lines if line["message"] == "answered"]


def self_signed(place: Path) -> Path:
    """A certificate for 127.0.0.1 that its own key has signed, with the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    own = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(own, critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    private = key.private_bytes(
        form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    place.write_bytes(made.public_bytes(form) + private)
    return place


def keys() -> list[Key]:
    ended = datetime.now(UTC) - timedelta(days=1)
    wanted: list[dict[str, Any]] = [
        {"name": "shop", "sha256": digest(READ)},
        {"name": "boss", "sha256": digest(ADMIN), "scope": "admin"},
        {"name": "slow", "sha256": digest(SLOW), "rate": 2},
        {"name": "old", "sha256": digest(OLD), "expires": ended},
        {"name": "lent", "sha256": digest(LENT)},
    ]
    return [Key.model_validate(one) for one in wanted]


@contextlib.contextmanager
def operated(folder: Path) -> Iterator[Service]:
    """Serve a small bundle, all of whose files lie in a folder."""
    bundle = write_bundle(folder, users=200, items=300)
    certificate = self_signed(folder / 'it\'s "ours" #1.pem')
    write(folder / "keys.json", keys())
    port = free_ports(1)[0]
    flags = ("--tls", certificate, "--keys", folder / "keys.json", "--metrics-port", port)
    logs = ("--access-log", "--logs", folder / "logs", "--cors", "https://shop.example")
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.ExitStack() as stack,
    ):
        # Ray tells metrics every ten seconds where nobody says otherwise.
        patch.setenv("RAY_metrics_report_interval_ms", "500")
        url, _ = stack.enter_context(serving(bundle, *flags, *logs))
        place = f"http://127.0.0.1:{port}/metrics"
        recommender = open_bundle(bundle).recommender
        yield Service(url.replace("http", "https"), folder, certificate, place, recommender)
