"""The gate between the pumps and the disk."""

from __future__ import annotations

from daemon.core.gate import FAIR_BYTES, READ_BYTES, Gate


class Disk:
    def __init__(self, limit):
        self.pending = 0
        self.gate = Gate(lambda: self.pending, limit)


def test_it_closes_over_the_limit_and_opens_at_a_quarter_of_it():
    disk, resumed = Disk(1000), []
    disk.pending = 1000
    assert not disk.gate.closed
    disk.pending = 1001
    assert disk.gate.closed
    disk.gate.wait(lambda: resumed.append(1))
    disk.pending = 251
    disk.gate.open()
    assert resumed == []
    disk.pending = 250
    disk.gate.open()
    disk.gate.open()
    assert resumed == [1]


def test_who_waits_goes_on_in_turn_and_once():
    disk, resumed = Disk(1000), []
    for n in range(3):
        disk.gate.wait(lambda n=n: resumed.append(n))
    disk.gate.open()
    assert resumed == [0, 1, 2]


def test_who_has_ended_is_not_called_back():
    disk, resumed = Disk(1000), []

    def gone():
        resumed.append("gone")

    disk.gate.wait(gone)
    disk.gate.wait(lambda: resumed.append("here"))
    disk.gate.forget(gone)
    disk.gate.forget(gone)
    disk.gate.open()
    assert resumed == ["here"]


def test_who_waits_again_at_once_waits_for_the_next_time():
    disk, calls = Disk(1000), []

    def again():
        calls.append(1)
        disk.gate.wait(again)

    disk.gate.wait(again)
    disk.gate.open()
    assert calls == [1]
    disk.gate.open()
    assert calls == [1, 1]


def test_pumps_share_the_limit_fairly():
    gate = Disk(1 << 20).gate
    shares = []
    for pumps in (0, 1, 16, 64, 10_000):
        gate.pumps = pumps
        shares.append(gate.share)
    assert shares == [READ_BYTES, READ_BYTES, READ_BYTES, 16 << 10, FAIR_BYTES]
