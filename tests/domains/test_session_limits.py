"""What is told where a limit has bitten, and of what was used."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from daemon.core import child
from daemon.core.spawner import Traces, read_numbers

ENDS = ("session.completed", "session.error", "session.cancelled")


async def run(running, *argv):
    """Run a session to its end; gives its events."""
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        seen = []
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            seen.append(message)
            if message.type in ENDS:
                break
        return seen


@pytest.fixture
def bitten(monkeypatch):
    """Have the cgroup of every task tell this, on a machine that may lend no controllers."""

    def tell(**facts):
        monkeypatch.setattr(
            child._Empty, "added_to", lambda _, exit_: dataclasses.replace(exit_, **facts)
        )

    return tell


async def test_an_end_tells_cpu_and_peak_memory(running):
    busy = "x = bytearray(40 << 20)\nfor _ in range(3_000_000): pass"
    (*_, end) = await run(running, sys.executable, "-c", busy)
    assert end.type == "session.completed"
    assert end.data["cpuSeconds"] > 0.01
    assert end.data["maxRssBytes"] > 40 << 20
    async with running.client() as client:
        session = await client.call("session.get", {"sessionId": end.data["sessionId"]})
    assert session["session"]["end"]["maxRssBytes"] == end.data["maxRssBytes"]


async def test_a_program_that_was_killed_for_its_memory_ends_with_oom(running, bitten):
    bitten(oom_kills=1)
    (*_, end) = await run(running, "sh", "-c", "kill -9 $$")
    assert (end.type, end.data["code"], end.data["signal"]) == ("session.error", "oom", 9)
    assert "memory limit" in end.data["message"]


async def test_a_program_that_survives_a_kill_below_it_ends_by_itself(running, bitten):
    bitten(oom_kills=1)
    (*_, end) = await run(running, "true")
    assert end.type == "session.completed"


async def test_a_limit_of_processes_that_was_reached_is_told_before_the_end(running, bitten):
    bitten(refused_forks=3)
    (*_, told, end) = await run(running, "true")
    assert end.type == "session.completed"
    assert told.data["type"] == "system"
    assert told.data["content"] == "its limit of processes was reached 3 times\n"


def test_a_reaper_reads_the_usage_of_the_whole_tree(tmp_path):
    for name, text in (
        ("cpu.stat", "usage_usec 30\nuser_usec 2000000\nsystem_usec 500000\n"),
        ("memory.peak", "4096\n"),
        ("memory.events", "low 0\noom 1\noom_kill 2\n"),
        ("pids.events", "max 5\n"),
    ):
        (tmp_path / name).write_text(text)
    assert Traces("", str(tmp_path), "").usage() == {
        "userSeconds": 2.0,
        "systemSeconds": 0.5,
        "peakBytes": 4096,
        "oomKills": 2,
        "refusedForks": 5,
    }
    assert Traces("", "", "").usage() == {}


def test_a_file_that_is_not_there_or_says_max_has_no_numbers(tmp_path):
    assert read_numbers(str(tmp_path / "none")) == {}
    (tmp_path / "pids.max").write_text("max\n")
    assert read_numbers(str(tmp_path / "pids.max")) == {}
