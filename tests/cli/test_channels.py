"""agentcmd tail and call: channels and commands as they are on the wire."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest


def create(agentcmd, *argv):
    data = json.dumps({"agent": "command", "argv": argv})
    return json.loads(agentcmd("call", "session.create", data).stdout)["sessionId"]


def to_the_end(following):
    """The messages of a `tail --json` up to the end of its session; Ctrl-C ends it then."""
    messages = []
    for line in following.stdout:
        messages.append(json.loads(line))
        if messages[-1]["type"] in ("session.completed", "session.error"):
            break
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130
    return messages


@pytest.mark.usefixtures("serving")
def test_tail_is_history_first_then_live(agentcmd, begin):
    created = create(agentcmd, "sh", "-c", "echo a; sleep 0.3; echo b")
    messages = to_the_end(begin("tail", f"session:{created}", "--json"))
    assert [m["offset"] for m in messages] == list(range(1, len(messages) + 1))
    assert "".join(m["data"].get("content", "") for m in messages) == "a\nb\n"
    later = to_the_end(begin("tail", f"session:{created}", "--since", "2", "--json"))
    assert later == messages[2:]
    done = agentcmd("tail", f"session:{created}", "--no-follow", "--since", "start", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == messages


@pytest.mark.usefixtures("serving")
def test_without_json_it_is_a_line_for_people(agentcmd):
    created = create(agentcmd, "echo", "é")
    to_the_end_of = ["tail", "--no-follow", f"session:{created}"]
    while b"session.completed" not in (told := agentcmd(*to_the_end_of).stdout):
        pass
    lines = told.decode().splitlines()
    assert lines[2].split(" ", 1)[1].startswith(f"session:{created} #3 session.stream_output {{")
    assert "é" in lines[2]


def test_tail_goes_on_after_a_restart_of_the_daemon(serving, agentcmd, begin):
    created = create(agentcmd, "sh", "-c", "echo a; sleep 300")
    following = begin("tail", f"session:{created}", "--json", stderr=subprocess.PIPE)
    seen = [json.loads(following.stdout.readline()) for _ in range(3)]
    serving.kill()
    serving.start()
    messages = seen + to_the_end(following)
    assert [m["offset"] for m in messages] == [1, 2, 3, 4]
    assert messages[-1]["data"]["code"] == "lost"
    assert following.stderr.read() == b""


@pytest.mark.usefixtures("serving")
def test_a_pattern_is_live(agentcmd, begin):
    following = begin("tail", "session:*", "project:scratch", "--json")
    assert json.loads(following.stdout.readline())["type"] == "project.created"
    created = create(agentcmd, "true")
    seen = set()
    while (f"session:{created}", "session.completed") not in seen:
        message = json.loads(following.stdout.readline())
        seen.add((message["channel"], message["type"]))
    following.kill()


def test_tail_of_what_is_not_there_is_one_line(serving, agentcmd):
    for more in ((), ("--no-follow",)):
        done = agentcmd("tail", "project:scratch", "session:none", *more)
        assert done.returncode == 1
        assert done.stderr == b"agentcmd: there is no channel session:none\n"
    assert serving.process.poll() is None


def test_a_reader_of_tail_that_leaves_is_no_failure_of_ours(serving, agentcmd, begin):
    following = begin("tail", "project:scratch", stderr=subprocess.PIPE)
    assert b"project.created" in following.stdout.readline()
    following.stdout.close()
    create(agentcmd, "true")
    assert following.wait(30) == 141
    assert following.stderr.read() == b""
    assert serving.process.poll() is None


@pytest.mark.usefixtures("serving")
def test_tail_ends_when_its_reader_is_gone_though_nothing_happens(begin):
    following = begin("tail", "project:scratch", stderr=subprocess.PIPE)
    assert b"project.created" in following.stdout.readline()
    following.stdout.close()
    assert following.wait(30) == 141
    assert following.stderr.read() == b""


@pytest.mark.usefixtures("serving")
def test_call_prints_the_answer_as_json_and_refusals_as_a_line(agentcmd):
    assert json.loads(agentcmd("call", "session.list").stdout) == {"sessions": []}
    for line, code, told in (
        (("session.fly",), 1, "session.create"),
        (("session.get", '{"sessionId": "none"}'), 1, "session.list"),
        (("session.create", '{"agent": "nobody"}'), 2, "command"),
        (("session.create", '{"agent": "command", "argv": [1]}'), 2, "argv"),
        (("session.list", '{"frob": 1}'), 2, "frob"),
    ):
        done = agentcmd("call", *line)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (code, b"", 1), line
        assert told in done.stderr.decode()
