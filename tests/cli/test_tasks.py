"""agentcmd status, stop, ps, cancel, kill: the daemon and its tasks from the shell."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest


def create(agentcmd, *argv):
    data = json.dumps({"agent": "command", "argv": argv})
    return json.loads(agentcmd("call", "session.create", data).stdout)["sessionId"]


def last_event(agentcmd, id_):
    """The end of a session, waited for."""
    end = time.monotonic() + 30
    while True:
        lines = agentcmd("tail", f"session:{id_}", "--no-follow", "--json").stdout.splitlines()
        last = json.loads(lines[-1])
        if last["type"] in ("session.completed", "session.error", "session.cancelled"):
            return last
        assert time.monotonic() < end


def test_status_says_where_since_when_and_what_runs(serving, agentcmd):
    told = agentcmd("status").stdout.decode()
    url = json.loads((serving.state_dir / "daemon.json").read_text())["url"]
    assert url in told
    assert f"pid {serving.pid}" in told
    assert ": ok since " in told
    as_json = json.loads(agentcmd("status", "--json").stdout)
    assert (as_json["url"], as_json["pid"], as_json["tasks"]) == (url, serving.pid, 0)


def test_ps_lists_what_runs_and_cancel_and_kill_end_it(serving, agentcmd):
    ids = [create(agentcmd, "sleep", "300") for _ in range(2)]
    listed = agentcmd("ps").stdout.decode().splitlines()
    columns = ["ID", "KIND", "STATE", "PID", "AGE", "CPU", "RSS", "PEAK", "CHANNEL"]
    assert listed[0].split() == columns
    assert [line.split()[0] for line in listed[1:]] == ids
    assert [line.split()[-1] for line in listed[1:]] == [f"session:{id_}" for id_ in ids]
    for verb, id_, number in (("cancel", ids[0], 15), ("kill", ids[1], 9)):
        done = agentcmd(verb, id_)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        told = last_event(agentcmd, id_)
        assert (told["type"], told["data"]["signal"]) == ("session.cancelled", number)
    assert json.loads(agentcmd("ps", "--json").stdout) == []
    assert serving.process.poll() is None


@pytest.mark.usefixtures("serving")
def test_what_does_not_run_cannot_be_cancelled_and_ps_is_named(agentcmd):
    for verb in ("cancel", "kill"):
        done = agentcmd(verb, "no-such-task")
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"agentcmd ps" in done.stderr


def test_stop_waits_until_the_daemon_has_ended(serving, agentcmd):
    id_ = create(agentcmd, "sleep", "300")
    done = agentcmd("stop")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert serving.close() == 0
    serving.start()
    assert last_event(agentcmd, id_)["data"]["code"] == "daemon_stopped"


def test_stop_ends_a_daemon_that_a_run_brought(agentcmd, begin):
    running = begin("run", "--", "sh", "-c", "echo ready; sleep 300")
    assert running.stdout.readline() == b"ready\n"
    assert agentcmd("stop").returncode == 0
    assert running.wait(1) == 143


def test_stop_works_from_afar_with_a_token(serving, agentcmd):
    token = agentcmd("token").stdout.decode().strip()
    url = json.loads((serving.state_dir / "daemon.json").read_text())["url"]
    elsewhere = {"AGENTCMD_SERVER__STATE_DIR": "/nonexistent"}
    there = {"AGENTCMD_URL": url, "AGENTCMD_TOKEN": token, **elsewhere}
    assert agentcmd("status", env=there).returncode == 0
    done = agentcmd("stop", env={**there, "AGENTCMD_TOKEN": "wrong"})
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    with urllib.request.urlopen(f"{url}/health") as answer:
        assert answer.status == 200
    assert agentcmd("stop", env=there).returncode == 0
    assert serving.process.wait(30) == 0
