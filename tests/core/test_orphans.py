"""What a daemon left that died together with its reapers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.core import orphans
from daemon.core.spawner import boot_id, start_time

ALONE = """
import os, time
os.setsid()
print(os.getpid(), flush=True)
time.sleep(100)
"""
FAMILY = """
import os, subprocess, time
os.setsid()
for _ in range(2):
    subprocess.Popen(["sh", "-c", "sleep 100 & wait"])
print(os.getpid(), flush=True)
time.sleep(100)
"""
LEAVING = """
import os, time
os.setsid()
if os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
time.sleep(100)
"""


@pytest.fixture
def begin():
    """Start programs, which end with the test."""
    made = []

    def start(code=ALONE):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        made.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in made:
        process.kill()
        process.wait()
        process.stdout.close()


def members(session: int) -> list[int]:
    """List who is alive in a session."""
    found = orphans._processes()
    return [pid for pid, fields in found if int(fields[3]) == session and fields[0] != b"Z"]


def note(folder: Path, **fields) -> Path:
    record = {"boot": boot_id(), "reaper": 0, "reaperStart": 0, **fields}
    path = folder / "1.json"
    path.write_text(json.dumps(record))
    return path


def test_a_recorded_program_is_ended_with_its_whole_session(tmp_path, begin):
    family = begin(FAMILY)
    path = note(tmp_path, leader=family.pid, leaderStart=start_time(family.pid))
    assert len(members(family.pid)) >= 3
    assert orphans.sweep(tmp_path) >= 3
    assert family.wait(30) == -signal.SIGKILL
    assert members(family.pid) == []
    assert not path.exists()


def test_what_the_session_has_left_is_ended_though_its_leader_is_gone(tmp_path, begin):
    leader = begin(LEAVING)
    leader.wait(30)
    assert len(members(leader.pid)) == 1
    note(tmp_path, leader=leader.pid, leaderStart=1)
    assert orphans.sweep(tmp_path) == 1
    assert members(leader.pid) == []


@pytest.mark.parametrize(
    "forged",
    [{"leaderStart": 1}, {"boot": "another"}, {"leader": 0}],
    ids=["another start time", "another boot", "no program yet"],
)
def test_a_process_is_touched_only_where_all_of_the_record_is_true(tmp_path, begin, forged):
    innocent = begin()
    right = {"leader": innocent.pid, "leaderStart": start_time(innocent.pid)}
    path = note(tmp_path, **{**right, **forged})
    assert orphans.sweep(tmp_path) == 0
    assert innocent.poll() is None
    assert not path.exists()


def test_a_reaper_that_was_stopped_is_ended_with_what_is_below_it(tmp_path, begin):
    reaper = begin(FAMILY)
    os.kill(reaper.pid, signal.SIGSTOP)
    note(tmp_path, reaper=reaper.pid, reaperStart=start_time(reaper.pid))
    assert orphans.sweep(tmp_path) >= 3
    assert reaper.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": 7}', "\0\xff", '{"reaper":"y"}'])
def test_half_a_record_tells_of_nothing_and_is_removed(tmp_path, text):
    (tmp_path / "1.json").write_text(text)
    assert orphans.sweep(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_there_may_be_no_records_at_all(tmp_path):
    assert orphans.sweep(tmp_path / "none") == 0
