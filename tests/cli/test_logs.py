"""agentcmd logs: the daemon's own log, filtered and followed."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "state" / "log"
    folder.mkdir(parents=True)
    return folder / "agentcmd.jsonl"


def record(n, level="info", **more):
    stamp = f"2026-01-01T00:00:{n:02}.000000Z"
    return json.dumps({"event": f"e{n}", "level": level, "timestamp": stamp, **more}) + "\n"


def test_a_task_can_be_found_in_the_log_of_a_daemon_that_has_ended(serving, agentcmd):
    data = json.dumps({"agent": "command", "argv": ["true"]})
    created = json.loads(agentcmd("call", "session.create", data).stdout)["sessionId"]
    serving.stop()
    records = [
        json.loads(line)
        for line in agentcmd("logs", "--json", "--task", created).stdout.splitlines()
    ]
    assert [r["event"] for r in records] == ["task.started", "task.ended"]
    assert b"daemon.started" in agentcmd("logs", "--since", "1h").stdout
    assert agentcmd("logs", "--level", "error").stdout == b""


def test_filters_hold_together(agentcmd, log):
    log.with_name("agentcmd.jsonl.1").write_text(record(1) + record(2, "error", task="t"))
    log.write_text(record(3, "warning", session="t") + "no json\n" + record(4, task="u") + "{half")

    def events(*args):
        return [line.split()[2].decode() for line in agentcmd("logs", *args).stdout.splitlines()]

    assert events() == ["e1", "e2", "e3", "e4"]
    assert events("-n", "2") == ["e3", "e4"]
    assert events("--level", "warning") == ["e2", "e3"]
    assert events("--task", "t") == ["e2", "e3"]
    assert events("--since", "2026-01-01T00:00:03Z") == ["e3", "e4"]
    assert events("--since", "1s") == []
    assert events("--task", "t", "-n", "1", "--level", "error") == ["e2"]


def test_a_traceback_is_printed_below_its_line(agentcmd, log):
    log.write_text(record(1, "error", exception="Traceb...\n  line\nValueError: x"))
    assert agentcmd("logs").stdout.decode().splitlines()[1:] == [
        "Traceb...",
        "  line",
        "ValueError: x",
    ]


def test_following_ends_when_its_reader_is_gone_though_nothing_is_logged(begin, log):
    log.write_text(record(1))
    following = begin("logs", "-f")
    assert b"e1" in following.stdout.readline()
    following.stdout.close()
    assert following.wait(30) == 141


def rotate(log, kept=3):
    """Do what the daemon's handler does when the file is full."""
    for n in range(kept, 0, -1):
        newer = log.with_name(f"{log.name}.{n - 1}") if n > 1 else log
        if newer.exists():
            newer.rename(log.with_name(f"{log.name}.{n}"))
    log.write_text("")


@pytest.mark.parametrize("lines", [1, 20])
def test_following_misses_nothing_when_the_file_is_rotated(begin, log, lines):
    log.write_text(record(0))
    following = begin("logs", "-f", "--json")
    seen = iter(lambda: json.loads(following.stdout.readline())["event"], None)
    assert next(seen) == "e0"
    for n in range(1, 6 * lines + 1):
        with log.open("a") as file:
            file.write(record(n))
        if n % lines == 0:
            rotate(log)
        if n % (3 * lines) == 0:  # as many rotations as files are kept come between two looks
            told = [next(seen) for _ in range(3 * lines)]
            assert told == [f"e{m}" for m in range(n - 3 * lines + 1, n + 1)]
    following.terminate()


def test_where_no_daemon_ever_ran_it_says_so(agentcmd):
    done = agentcmd("logs")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"has a daemon run here?" in done.stderr
