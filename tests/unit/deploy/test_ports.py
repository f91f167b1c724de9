"""A port that a program is given stays its own while it is down."""

import socket
from pathlib import Path

from deploy.local.ports import LOOPBACK, free_ports


def test_no_outgoing_connection_takes_a_port_of_a_program_that_is_down():
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for port in free_ports(50):
        assert not lowest <= port <= highest or lowest <= 20480


def test_ports_are_different_and_can_be_listened_on():
    ports = free_ports(50)
    assert len(set(ports)) == 50
    for port in ports:
        socket.create_server((LOOPBACK, port)).close()


def test_one_that_somebody_listens_on_is_passed_over(monkeypatch):
    taken, free = free_ports(2)
    ports = iter([taken, taken, free])
    monkeypatch.setattr("random.SystemRandom.randrange", lambda *_: next(ports))
    with socket.create_server((LOOPBACK, taken)):
        assert free_ports(1) == [free]
