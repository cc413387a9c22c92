"""agentcmd run: bytes in, bytes out, the exit code; with a daemon of its own or another's."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
from support import processes_with

HOLDING = "echo ready; read x; echo got $x"
"""A script that says when it runs, and ends when it is told to."""


def gone(mark, within=30.0):
    end = time.monotonic() + within
    while processes_with(mark):
        assert time.monotonic() < end
        time.sleep(0.05)


# What the program says and how it ends


def test_streams_stay_apart_and_the_exit_code_is_the_programs(agentcmd):
    done = agentcmd("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_run_ends_as_the_program_does_and_adds_nothing(agentcmd, script, code):
    done = agentcmd("run", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_a_program_that_cannot_be_started_is_one_line_and_a_failure(agentcmd, folder):
    (folder / "data").write_text("no program")
    for program, told in (
        ("no-such-program", b"install it or set PATH"),
        ("./data", b"chmod +x"),
        ("/", b"name a program inside it"),
    ):
        done = agentcmd("run", "--", program)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.count(b"\n") == 1
        assert told in done.stderr
        assert program.encode() in done.stderr


def test_run_is_in_the_current_folder_with_what_env_says(agentcmd, tmp_path):
    done = agentcmd("run", "--env", "A=b=c", "--env", "E=", "--", "sh", "-c", "pwd; echo $A${E-x}")
    assert done.stdout.decode() == f"{tmp_path / 'folder'}\nb=c\n"
    done = agentcmd("run", "--project", str(tmp_path), "--", "pwd")
    assert done.stdout.decode() == f"{tmp_path}\n"
    done = agentcmd("run", "--project", "nowhere", "--", "pwd")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"nowhere" in done.stderr


def test_the_project_is_the_root_of_the_checkout(agentcmd, folder):
    (folder / ".git").mkdir()
    (folder / "deep" / "inside").mkdir(parents=True)
    done = agentcmd("run", "--json", "--project", "deep/inside", "--", "pwd")
    created = json.loads(done.stdout.splitlines()[0])["data"]["session"]
    assert created["cwd"] == str(folder / "deep" / "inside")
    assert created["projectId"].startswith("folder-")


def test_arguments_after_the_dashes_are_the_programs(agentcmd):
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    args = ["--json", "-x", "", "a b", "$HOME", "--", "*", "`id`", "é", "a\nb", "--help"]
    done = agentcmd("run", "--", sys.executable, "-c", program, *args)
    assert json.loads(done.stdout) == args


def test_no_variable_of_the_daemon_reaches_a_child(agentcmd):
    secret = {"AGENTCMD_LOG__LEVEL": "error", "GIT_DIR": "/x", "MY_SECRET": "x", "LC_ALL": "C"}
    done = agentcmd("run", "--", "env", env=secret)
    names = {line.split("=")[0] for line in done.stdout.decode().splitlines()}
    assert "LC_ALL" in names
    assert not {n for n in names if n.startswith("AGENTCMD") or n in ("GIT_DIR", "MY_SECRET")}


@pytest.mark.usefixtures("serving")
def test_json_prints_exactly_the_wire_messages(agentcmd):
    done = agentcmd("run", "--json", "--", "sh", "-c", "echo é; exit 3")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [m["offset"] for m in messages] == list(range(1, len(messages) + 1))
    assert messages[0]["type"] == "session.created"
    assert messages[-1]["type"] == "session.completed"
    assert done.returncode == 3
    tailed = agentcmd("tail", "--json", "--no-follow", messages[0]["channel"])
    assert [json.loads(line) for line in tailed.stdout.splitlines()] == messages
    assert [list(m) for m in messages] == [["channel", "type", "data", "offset", "ts"]] * 4


def test_output_that_cannot_be_written_is_one_line_and_ends_the_program(begin):
    mark = uuid.uuid4().hex
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        running = begin(
            "run", "--", "sh", "-c", f"yes; : {mark}", stdout=full, stderr=subprocess.PIPE
        )
        assert running.wait(30) == 1
    assert running.stderr.read() == b"agentcmd: No space left on device\n"
    gone(mark)


def test_a_reader_that_leaves_ends_the_run_quietly(begin):
    mark = uuid.uuid4().hex
    running = begin("run", "--", "sh", "-c", f"yes; : {mark}", stderr=subprocess.PIPE)
    assert running.stdout.read(4) == b"y\ny\n"
    running.stdout.close()
    assert running.wait(30) == 141
    assert running.stderr.read() == b""
    gone(mark)


def test_closed_standard_streams_are_no_failure(environ, folder):
    for closed, script, code in (
        ("<&-", "cat; exit 3", 3),
        (">&-", "echo out; exit 4", 4),
        ("2>&-", "echo err >&2; exit 5", 5),
        ("<&- >&- 2>&-", "exit 6", 6),
    ):
        line = f'exec "$@" run -- sh -c "{script}" {closed}'
        done = subprocess.run(
            ["sh", "-c", line, "sh", sys.executable, "-m", "daemon"],
            env=environ,
            cwd=folder,
            timeout=30,
            check=False,
            capture_output=True,
        )
        assert (done.returncode, done.stderr) == (code, b"")


# What the program is told


def test_input_is_passed_on_byte_for_byte(agentcmd):
    data = os.urandom(600_000).hex().encode() + "\né€ no newline".encode()
    assert agentcmd("run", "--", "cat", stdin=data).stdout == data


def test_input_may_be_any_bytes(agentcmd):
    data = bytes(range(256)) * 20_000
    program = "import sys; d = sys.stdin.buffer.read(); print(d == bytes(range(256)) * 20_000)"
    assert agentcmd("run", "--", sys.executable, "-c", program, stdin=data).stdout == b"True\n"


@pytest.mark.usefixtures("serving")
def test_input_in_many_small_pieces_is_neither_lost_nor_too_fast_for_the_daemon(begin):
    running = begin("run", "--", "cat", stdin=subprocess.PIPE)
    assert running.stdin is not None
    for n in range(2000):
        running.stdin.write(b"line %d\n" % n)
        running.stdin.flush()
    running.stdin.close()
    assert running.stdout.read() == b"".join(b"line %d\n" % n for n in range(2000))
    assert running.wait(30) == 0


def test_a_program_that_reads_no_input_is_not_held_up_by_it(agentcmd):
    done = agentcmd("run", "--", "sh", "-c", "exit 5", stdin=bytes(5_000_000))
    assert (done.returncode, done.stderr) == (5, b"")


def test_an_end_of_input_is_passed_on_though_the_program_goes_on(agentcmd):
    done = agentcmd("run", "--", "sh", "-c", "cat; echo after", stdin=b"in\n")
    assert done.stdout == b"in\nafter\n"


# On a terminal


def test_a_prompt_shows_at_once_and_takes_an_answer(terminal):
    on = terminal("run", "--", "sh", "-c", "printf 'name: '; read x; echo hi $x")
    on.until(b"name: ")
    on.type(b"bob\n")
    on.until(b"hi bob")
    assert on.end() == 0
    last = on.seen.splitlines()[-1]
    assert last.startswith(b"agentcmd: exit 0, ")
    assert b" s, session " in last


def test_an_end_of_file_at_the_keyboard_ends_the_input(terminal):
    on = terminal("run", "--", "sh", "-c", "cat; echo over; exit 9")
    on.type(b"one\n")
    on.until(b"one\r\none")
    on.type(b"\x04")
    on.until(b"over")
    assert on.end() == 9


def test_ctrl_c_cancels(terminal):
    mark = uuid.uuid4().hex
    on = terminal("run", "--", "sh", "-c", f"echo ready; sleep 300; : {mark}")
    on.until(b"ready")
    on.type(b"\x03")
    on.until(b"cancelled")
    assert on.end() == 130
    gone(mark)


def test_a_second_ctrl_c_kills(terminal, environ):
    environ["AGENTCMD_TASK__STOP_GRACE"] = "60"
    on = terminal(
        "run", "--", "sh", "-c", "trap '' TERM INT; echo ready; while :; do sleep 1; done"
    )
    on.until(b"ready")
    on.type(b"\x03")
    on.until(b"once more")
    on.type(b"\x03")
    begun = time.monotonic()
    assert on.end() == 130
    assert time.monotonic() - begun < 30  # the grace of the first one is 60


def test_a_terminal_that_is_closed_ends_the_program(serving, terminal):
    mark = uuid.uuid4().hex
    on = terminal("run", "--", "sh", "-c", f"echo ready; sleep 300; : {mark}")
    on.until(b"ready")
    on.hang_up()
    gone(mark)
    assert serving.process.poll() is None


def test_sigterm_cancels_as_ctrl_c_does(begin):
    mark = uuid.uuid4().hex
    running = begin("run", "--", "sh", "-c", f"echo ready; sleep 300; : {mark}")
    assert running.stdout.readline() == b"ready\n"
    running.terminate()
    assert running.wait(30) == 143
    gone(mark)


def test_nohup_is_heeded(begin):
    running = begin(
        "run", "--", "sh", "-c", HOLDING, stdin=subprocess.PIPE, preexec_fn=_ignore_hang_up
    )
    assert running.stdout.readline() == b"ready\n"
    running.send_signal(signal.SIGHUP)
    assert running.communicate(b"it\n", timeout=30)[0] == b"got it\n"
    assert running.returncode == 0


def _ignore_hang_up():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_a_cancelled_session_ends_once_and_is_told_so(agentcmd, begin):
    running = begin("run", "--json", "--", "sleep", "300")
    seen = []
    for line in running.stdout:
        seen.append(json.loads(line))
        if seen[-1]["type"] == "session.started":
            assert agentcmd("cancel", seen[-1]["data"]["sessionId"]).returncode == 0
    assert running.wait(30) == 143
    assert [m["type"] for m in seen][-1] == "session.cancelled"


# Which daemon


def test_run_uses_the_daemon_that_runs(serving, agentcmd):
    assert agentcmd("run", "--", "echo", "hi").stdout == b"hi\n"
    listed = json.loads(agentcmd("call", "session.list").stdout)["sessions"]
    assert [session["argv"] for session in listed] == [["echo", "hi"]]
    assert not (serving.state_dir / "agentcmd.sock").exists()


def test_kill_9_of_run_leaves_nothing_and_is_no_obstacle(agentcmd, begin):
    mark = uuid.uuid4().hex
    script = f"(setsid sh -c 'sleep 300; : {mark}' &) ; echo ready; sleep 300; : {mark}"
    running = begin("run", "--", "sh", "-c", script)
    assert running.stdout.readline() == b"ready\n"
    running.kill()
    running.wait()
    gone(mark)
    assert agentcmd("status").returncode == 3
    assert agentcmd("run", "--", "echo", "hi").stdout == b"hi\n"


def test_a_second_run_uses_the_daemon_that_the_first_brought(agentcmd, begin, tmp_path):
    first = begin("run", "--", "sh", "-c", HOLDING, stdin=subprocess.PIPE)
    assert first.stdout.readline() == b"ready\n"
    socket = tmp_path / "state" / "agentcmd.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(agentcmd("ps", "--json").stdout)) == 1
    assert agentcmd("run", "--", "echo", "second").stdout == b"second\n"
    assert first.poll() is None
    assert first.communicate(b"it\n", timeout=30)[0] == b"got it\n"
    assert first.returncode == 0
    assert not socket.exists()


def test_the_first_run_stays_for_the_second_and_ctrl_c_ends_that(terminal, begin):
    first = terminal("run", "--", "sh", "-c", HOLDING)
    first.until(b"ready")
    second = begin("run", "--", "sh", "-c", "echo there; sleep 300", stderr=subprocess.PIPE)
    assert second.stdout.readline() == b"there\n"
    first.type(b"it\n")
    first.until(b"staying for 1 other task that uses this daemon")
    first.type(b"\x03")
    assert first.end() == 0
    assert second.wait(30) == 1
    assert second.stderr.read() == b"agentcmd: the daemon was stopped; start it anew\n"


def test_a_second_run_is_told_the_end_by_the_journal_when_the_first_is_killed(begin):
    first = begin("run", "--", "sh", "-c", HOLDING, stdin=subprocess.PIPE)
    assert first.stdout.readline() == b"ready\n"
    second = begin("run", "--", "sh", "-c", "echo there; sleep 300", stderr=subprocess.PIPE)
    assert second.stdout.readline() == b"there\n"
    first.kill()
    assert second.wait(30) == 1
    assert second.stderr.read() == b"agentcmd: the daemon died while it ran; start it anew\n"


def test_runs_that_come_and_go_at_the_same_time_never_fail_for_each_other(agentcmd):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: agentcmd("run", "--", "echo", str(n)), range(16)))
    assert [(d.returncode, d.stdout, d.stderr) for d in done] == [
        (0, b"%d\n" % n, b"") for n in range(16)
    ]


def test_a_daemon_that_drains_is_waited_for(serving, agentcmd, begin):
    holding = "trap '' TERM; echo ready; sleep 2; exit 0"
    first = begin("run", "--", "sh", "-c", holding)
    assert first.stdout.readline() == b"ready\n"
    serving.process.terminate()
    assert agentcmd("run", "--", "echo", "hi").stdout == b"hi\n"
    assert serving.process.wait(30) == 0


def test_ctrl_c_leaves_a_daemon_that_is_not_there_any_more(serving, terminal):
    on = terminal("run", "--", "sh", "-c", "echo ready; sleep 300")
    on.until(b"ready")
    serving.kill()
    on.until(b"connecting again")
    on.type(b"\x03")
    on.until(b"agentcmd tail session:")
    assert on.end() == 130


def test_run_goes_on_with_a_daemon_that_was_restarted(serving, begin):
    running = begin("run", "--", "sh", "-c", "echo ready; sleep 300", stderr=subprocess.PIPE)
    assert running.stdout.readline() == b"ready\n"
    serving.kill()
    serving.start()
    assert running.wait(30) == 1
    assert running.stderr.read() == b"agentcmd: the daemon died while it ran; start it anew\n"


def test_system_stop_ends_a_daemon_that_a_run_brought(agentcmd, begin):
    running = begin("run", "--", "sh", "-c", "echo ready; sleep 300")
    assert running.stdout.readline() == b"ready\n"
    assert agentcmd("call", "system.stop").returncode == 0
    assert running.wait(30) == 143
