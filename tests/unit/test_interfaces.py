"""Which network interface a node talks through."""

import os
import sys

import psutil
import pytest
import ray

from cluster.interfaces import NAMES, interface_of, use_own_interface

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def test_an_address_leads_to_its_interface() -> None:
    assert interface_of("127.0.0.1") == LOOPBACK
    assert interface_of("127.0.0.3") == LOOPBACK
    # An address for documentation, which no machine has.
    assert interface_of("192.0.2.1") is None
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family.name == "AF_INET" and not one.address.startswith("127."):
                assert interface_of(one.address) == name


def test_a_worker_takes_the_one_of_its_nodes_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "chosen")
    use_own_interface()
    assert [os.environ[name] for name in NAMES] == [LOOPBACK, "chosen", LOOPBACK]
    for name in NAMES:
        monkeypatch.setenv(name, "restored by monkeypatch")
