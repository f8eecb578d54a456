"""Free ports are free, different, and out of the reach of sockets without a port of their own."""

import socket
from pathlib import Path

import pytest

from cluster import ports
from cluster.ports import CHOICE, free_ports

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_as_many_as_asked_for_can_be_listened_at() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    for port in found:
        with socket.create_server(("127.0.0.1", port)):
            assert port in CHOICE


def test_what_is_taken_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = free_ports(2)
    monkeypatch.setattr(ports, "CHOICE", [one, other])
    with socket.create_server(("127.0.0.1", one)):
        assert free_ports(1) == [other]
        with pytest.raises(OSError, match=r"expected 2 free ports of .* found 1"):
            free_ports(2)


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="only Linux says which ports it hands out")
def test_no_port_is_one_that_the_system_hands_out() -> None:
    lowest, _ = map(int, EPHEMERAL.read_text().split())
    assert max(CHOICE) < lowest
