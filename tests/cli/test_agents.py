"""agentcmd run with the real claude: its words, its questions, its end."""

from __future__ import annotations

import json
import re
import time

import pytest
from agents import claude_settings
from model import script
from support import DaemonProcess

BASH = {"tool": "Bash", "input": {"command": "touch made; echo hi"}}


@pytest.fixture
def environ(environ, tmp_path, model_elsewhere):
    """The environment of commands whose claude asks the model server."""
    settings = claude_settings(model_elsewhere.url, tmp_path / "agent-home")
    return {**environ, **{f"AGENTCMD_{name}": value for name, value in settings.items()}}


def test_the_words_come_on_stdout_and_what_it_does_on_stderr(agentcmd):
    prompt = script(
        [{"text": "Let me see."}, {"tool": "Bash", "input": {"command": "echo seen"}}],
        [{"text": "That is all."}],
    )
    done = agentcmd("run", "--agent", "claude", "--allow", "Bash(echo:*)", prompt)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "Let me see.\nThat is all.\n"
    assert done.stderr.decode() == "* Bash: echo seen\n  seen\n"


def test_the_prompt_may_come_on_stdin(agentcmd):
    done = agentcmd("run", "--agent", "claude", stdin=script([{"text": "read"}]).encode())
    assert (done.returncode, done.stdout) == (0, b"read\n")


def test_where_nobody_can_be_asked_the_answer_is_no(agentcmd, folder):
    done = agentcmd("run", "--agent", "claude", script([BASH], [{"text": "A pity."}]))
    assert done.returncode == 0
    assert done.stdout == b"A pity.\n"
    assert b"? Bash: touch made; echo hi\n  denied: nobody" in done.stderr
    assert not (folder / "made").exists()


@pytest.mark.parametrize(("typed", "made"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_a_question_is_answered_at_the_terminal(terminal, folder, typed, made):
    on = terminal("run", "--agent", "claude", script([BASH], [{"text": "Well."}]))
    on.until(b"allow? [y]es")
    on.type(typed)
    on.until(b"Well.")
    assert on.end() == 0
    assert (folder / "made").exists() is made
    assert b"tokens, $0.0" in on.seen


def test_json_gives_the_wire_messages(agentcmd):
    done = agentcmd("run", "--json", "--agent", "claude", script([{"text": "word"}]))
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [m["offset"] for m in messages] == list(range(1, len(messages) + 1))
    assert messages[-1]["data"]["result"] == "word"
    assert "session.message_delta" in {m["type"] for m in messages}


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ((script({"status": 400}),), "400"),
        (("--model", "nosuch", script({"status": 404})), "nosuch"),
        (("--resume", "garbage", "hello"), "garbage"),
        (("--budget", "0.0001", script([{"text": "dear"}])), "budget"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_exit_code_1(agentcmd, args, match):
    done = agentcmd("run", "--agent", "claude", *args)
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("agentcmd: ")
    assert match in last


def test_a_program_that_is_missing_is_a_sentence(agentcmd):
    missing = {"AGENTCMD_AGENTS__CLAUDE__PATH": "/no/such/claude"}
    done = agentcmd("run", "--agent", "claude", "hello", env=missing)
    assert done.returncode == 1
    assert b"/no/such/claude" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--agent", "claude"), b"empty"),
        (("--agent", "claude", "hello", "--", "ls"), b"takes a prompt"),
        (("--agent", "nobody", "hello"), b"claude, command"),
        (("--agent", "claude", "--permission-mode", "all", "hello"), b"acceptEdits"),
        (("hello",), b"--agent claude"),
        (("--model", "m", "--", "ls"), b"takes no model"),
    ],
)
def test_what_is_asked_wrongly_is_usage(agentcmd, args, match):
    done = agentcmd("run", *args)
    assert done.returncode == 2, done.stderr
    assert match in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_ctrl_c_cancels_an_agent(terminal, model_elsewhere):
    on = terminal("run", "--agent", "claude", script({"stall": 60}))
    end = time.monotonic() + 30
    while not model_elsewhere.requests:
        assert time.monotonic() < end
        time.sleep(0.02)
    on.type(b"\x03")
    assert on.end() == 130


@pytest.fixture
def serving(environ, tmp_path):
    """A daemon whose claude asks the model server."""
    daemon = DaemonProcess(tmp_path / "state")
    daemon.environ |= environ
    daemon.start()
    yield daemon
    daemon.process.kill()
    daemon.close()


def create(agentcmd, **data):
    """Create a session; gives its id."""
    done = agentcmd("call", "session.create", json.dumps({"agent": "claude", **data}))
    return json.loads(done.stdout)["sessionId"]


def state_of(agentcmd, session):
    return json.loads(agentcmd("session", "show", "--json", session).stdout)


def until(agentcmd, session, **wanted):
    """Wait until the session's fields are these."""
    end = time.monotonic() + 20
    while not wanted.items() <= (shown := state_of(agentcmd, session)).items():
        assert time.monotonic() < end, shown
    return shown


@pytest.mark.usefixtures("serving")
def test_a_session_is_listed_shown_answered_spoken_to_and_followed(agentcmd):
    session = create(agentcmd, prompt=script([BASH], [{"text": "First."}]), name="the one")
    shown = until(agentcmd, session, state="waiting")
    listed = agentcmd("session", "list", "--state", "waiting").stdout.decode().splitlines()
    assert listed[0].split() == ["ID", "AGENT", "STATE", "AGE", "COST", "ABOUT"]
    assert listed[1].split()[:3] == [session, "claude", "waiting"]
    assert listed[1].endswith("the one")
    text = agentcmd("session", "show", session).stdout.decode()
    assert text.startswith(f"? {shown['permissions'][0]['requestId']}  Bash: touch made")
    assert agentcmd("session", "deny", session, "--message", "later").returncode == 0
    until(agentcmd, session, state="ended")
    again = agentcmd("session", "deny", session)
    assert (again.returncode, again.stderr.count(b"\n")) == (1, 1)
    assert agentcmd("session", "send", session, script([{"text": "Second."}])).returncode == 0
    followed = agentcmd("attach", session)
    raw = agentcmd("session", "transcript", session).stdout.decode().splitlines()
    assert [json.loads(line)["type"] for line in raw].count("result") == 2
    assert followed.stdout.decode() == "First.\nSecond.\n"
    assert b"failed: later" in followed.stderr
    assert followed.returncode == 0


@pytest.mark.usefixtures("serving")
def test_interrupt_and_resume(agentcmd):
    session = create(agentcmd, prompt=script([BASH]), keepAlive=True)
    until(agentcmd, session, state="waiting")
    assert agentcmd("session", "interrupt", session).returncode == 0
    until(agentcmd, session, state="idle")
    assert agentcmd("cancel", session).returncode == 0
    until(agentcmd, session, state="ended")
    assert agentcmd("session", "resume", session).returncode == 0
    until(agentcmd, session, state="idle")
    assert agentcmd("kill", session).returncode == 0


@pytest.mark.usefixtures("serving")
def test_who_is_attached_at_a_terminal_is_asked(agentcmd, terminal):
    session = create(agentcmd, prompt=script([BASH], [{"text": "Well."}]))
    until(agentcmd, session, state="waiting")
    on = terminal("attach", session)
    on.until(b"allow? [y]es")
    on.type(b"y\n")
    on.until(b"Well.")
    assert on.end() == 0


@pytest.mark.usefixtures("serving")
def test_a_question_that_is_answered_elsewhere_is_told(agentcmd, terminal):
    session = create(agentcmd, prompt=script([BASH], [{"text": "Well."}]))
    until(agentcmd, session, state="waiting")
    on = terminal("attach", session)
    on.until(b"allow? [y]es")
    assert agentcmd("session", "approve", session).returncode == 0
    on.until(b"answered elsewhere: allow")
    assert on.end() == 0


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    "args",
    [
        ("attach", "none"),
        ("session", "show", "none"),
        ("session", "send", "none", "hello"),
        ("session", "approve", "none"),
        ("session", "approve", "none", "r1"),
        ("session", "interrupt", "none"),
        ("session", "resume", "none"),
    ],
)
def test_a_session_that_is_not_there_is_one_line(agentcmd, args):
    done = agentcmd(*args)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert re.search(rb"session.list", done.stderr)  # the command, or its command line
