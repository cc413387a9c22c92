"""agentcmd as a person meets it: one line in, bytes out, an exit code."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from support import DaemonProcess, processes_with

from daemon import __version__

AGENTCMD = [sys.executable, "-m", "daemon"]


@pytest.fixture
def environ(tmp_path):
    return {**os.environ, "AGENTCMD_SERVER__STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def agentcmd(environ, tmp_path):
    """Run a command line to its end, in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def run(*args, stdin=b"", env=None, timeout=30):
        done = subprocess.run(
            [*AGENTCMD, *args],
            input=stdin,
            capture_output=True,
            env={**environ, "PYTHONPATH": str(Path.cwd()), **(env or {})},
            cwd=folder,
            timeout=timeout,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done

    return run


@pytest.fixture
def serving(tmp_path):
    daemon = DaemonProcess(tmp_path / "state")
    daemon.start()
    yield daemon
    daemon.process.kill()
    daemon.close()


class Terminal:
    """A command on a pseudo-terminal, as its user sees it."""

    def __init__(self, *args, env, cwd):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(sys.executable, [*AGENTCMD, *args], env)
        self.seen = b""

    def until(self, text, timeout=15):
        end = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    break
        assert text in self.seen, self.seen
        return self.seen

    def type(self, text):
        os.write(self.fd, text)

    def end(self):
        with suppress(OSError):
            while data := os.read(self.fd, 4096):
                self.seen += data
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code


@pytest.fixture
def terminal(environ, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    environ = {**environ, "PYTHONPATH": str(Path.cwd())}
    return lambda *args: Terminal(*args, env=environ, cwd=folder)


# run


def test_streams_stay_apart_and_the_exit_code_is_the_programs(agentcmd):
    done = agentcmd("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_run_ends_as_the_program_does(agentcmd, script, code):
    assert agentcmd("run", "--", "sh", "-c", script).returncode == code


def test_a_missing_program_is_one_line_and_a_failure(agentcmd):
    done = agentcmd("run", "--", "no-such-program")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"no-such-program" in done.stderr


def test_input_is_passed_on_byte_for_byte(agentcmd):
    data = os.urandom(300_000).hex().encode() + "\né€ no newline".encode()
    done = agentcmd("run", "--", "cat", stdin=data)
    assert done.stdout == data


def test_arguments_after_the_dashes_are_the_programs(agentcmd):
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    args = ["--json", "-x", "", "a b", "$HOME", "--", "*", "é"]
    done = agentcmd("run", "--", sys.executable, "-c", program, *args)
    assert json.loads(done.stdout) == args


def test_run_is_in_the_current_folder_with_what_env_says(agentcmd, tmp_path):
    done = agentcmd("run", "--env", "A=b=c", "--", "sh", "-c", "pwd; echo $A")
    assert done.stdout.decode() == f"{tmp_path / 'folder'}\nb=c\n"
    done = agentcmd("run", "--project", str(tmp_path), "--", "pwd")
    assert done.stdout.decode() == f"{tmp_path}\n"


def test_no_variable_of_the_daemon_reaches_a_child(agentcmd):
    secret = {"AGENTCMD_LOG__LEVEL": "error", "GIT_DIR": "/x", "MY_SECRET": "x", "LC_ALL": "C"}
    done = agentcmd("run", "--", "env", env=secret)
    names = {line.split("=")[0] for line in done.stdout.decode().splitlines()}
    assert "LC_ALL" in names
    assert not {n for n in names if n.startswith("AGENTCMD") or n in ("GIT_DIR", "MY_SECRET")}


def test_json_prints_the_wire_messages(agentcmd):
    done = agentcmd("run", "--json", "--", "echo", "hi")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [m["offset"] for m in messages] == list(range(1, len(messages) + 1))
    assert messages[0]["type"] == "session.created"
    assert messages[-1]["type"] == "session.completed"


def test_a_reader_that_leaves_ends_the_run_quietly(environ):
    mark = uuid.uuid4().hex
    running = subprocess.Popen(
        [*AGENTCMD, "run", "--", "sh", "-c", f"yes; : {mark}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
    )
    assert running.stdout.read(4) == b"y\ny\n"
    running.stdout.close()
    assert running.wait(15) == 141
    assert running.stderr.read() == b""
    running.stderr.close()
    assert not processes_with(mark)


def test_a_prompt_shows_at_once_and_takes_an_answer(terminal):
    on = terminal("run", "--", "sh", "-c", "printf 'name: '; read x; echo hi $x")
    on.until(b"name: ")
    on.type(b"bob\n")
    on.until(b"hi bob")
    assert on.end() == 0
    assert b"agentcmd: exit 0, " in on.seen


def test_ctrl_c_cancels(terminal):
    mark = uuid.uuid4().hex
    on = terminal("run", "--", "sh", "-c", f"echo ready; sleep 300; : {mark}")
    on.until(b"ready")
    on.type(b"\x03")
    on.until(b"cancelled")
    assert on.end() == 130
    assert not processes_with(mark)


def test_a_second_ctrl_c_kills(terminal):
    on = terminal(
        "run", "--", "sh", "-c", "trap '' TERM INT; echo ready; while :; do sleep 1; done"
    )
    on.until(b"ready")
    on.type(b"\x03")
    on.until(b"once more")
    on.type(b"\x03")
    begun = time.monotonic()
    assert on.end() == 130
    assert time.monotonic() - begun < 4  # the grace of the first one is 5


def test_kill_9_of_run_leaves_nothing(environ):
    mark = uuid.uuid4().hex
    running = subprocess.Popen(
        [
            *AGENTCMD,
            "run",
            "--",
            "sh",
            "-c",
            f"(setsid sleep 300 &) ; echo ready; sleep 300; : {mark}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**environ, "PATH": os.environ["PATH"]},
    )
    assert running.stdout.readline() == b"ready\n"
    running.kill()
    running.wait()
    running.stdout.close()
    end = time.monotonic() + 5
    while processes_with(mark):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_second_run_uses_the_daemon_that_the_first_brought(agentcmd, environ):
    first = subprocess.Popen(
        [*AGENTCMD, "run", "--", "sh", "-c", "echo ready; read x; echo got $x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
    )
    assert first.stdout.readline() == b"ready\n"
    tasks = json.loads(agentcmd("ps", "--json").stdout)
    assert len(tasks) == 1
    assert agentcmd("run", "--", "echo", "second").stdout == b"second\n"
    out, _ = first.communicate(b"it\n", timeout=15)
    assert (out, first.returncode) == (b"got it\n", 0)


# The daemon's commands


def test_serve_prints_one_line_and_keeps_its_state_private(serving):
    state = serving.state_dir
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("jwt.secret", "daemon.json", "agentcmd.db"):
        assert (state / name).stat().st_mode & 0o077 == 0, name


def test_a_second_daemon_is_told_who_holds_the_state_dir(serving, agentcmd):
    done = agentcmd("serve", "--port", "0")
    assert done.returncode == 1
    assert f"pid {serving.pid}".encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_what_a_dead_daemon_left_is_no_obstacle(serving, agentcmd):
    serving.kill()
    assert agentcmd("status").returncode == 3
    assert agentcmd("run", "--", "echo", "hi").stdout == b"hi\n"


def test_a_port_in_use_is_one_line(serving, agentcmd, tmp_path):
    port = json.loads((serving.state_dir / "daemon.json").read_text())["url"].rsplit(":", 1)[1]
    done = agentcmd("serve", "--port", port, "--state-dir", str(tmp_path / "other"))
    assert done.returncode == 1
    assert b"--port" in done.stderr.splitlines()[-1]


def test_status_ps_cancel_kill_stop(serving, agentcmd):
    assert b"ok since" in agentcmd("status").stdout
    data = json.dumps({"agent": "command", "argv": ["sleep", "300"]})
    ids = [
        json.loads(agentcmd("call", "session.create", data).stdout)["sessionId"] for _ in range(2)
    ]
    listed = agentcmd("ps").stdout.decode().splitlines()
    assert listed[0].split()[:4] == ["ID", "KIND", "STATE", "PID"]
    assert {line.split()[0] for line in listed[1:]} == set(ids)
    assert agentcmd("cancel", ids[0]).returncode == 0
    assert agentcmd("kill", ids[1]).returncode == 0
    for id_ in ids:
        seen = agentcmd("tail", f"session:{id_}", "--no-follow", "--json").stdout.splitlines()
        assert json.loads(seen[0])["type"] == "session.created"
    done = agentcmd("cancel", "no-such-task")
    assert done.returncode == 1
    assert b"agentcmd ps" in done.stderr
    assert agentcmd("stop").returncode == 0
    assert serving.process.wait(10) == 0
    done = agentcmd("status")
    assert done.returncode == 3
    assert b"agentcmd serve" in done.stderr


def test_tail_follows_from_an_offset(serving, agentcmd):
    data = json.dumps({"agent": "command", "argv": ["sh", "-c", "echo a; sleep 0.1; echo b"]})
    created = json.loads(agentcmd("call", "session.create", data).stdout)["sessionId"]
    following = subprocess.Popen(
        [*AGENTCMD, "tail", f"session:{created}", "--since", "1", "--json"],
        stdout=subprocess.PIPE,
        env=serving.environ,
    )
    offsets = []
    for line in following.stdout:
        message = json.loads(line)
        offsets.append(message["offset"])
        if message["type"] == "session.completed":
            break
    following.send_signal(signal.SIGINT)
    following.wait(10)
    following.stdout.close()
    assert offsets == list(range(2, len(offsets) + 2))


def test_tail_of_what_is_not_there_is_one_line(serving, agentcmd):
    for more in ((), ("--no-follow",)):
        done = agentcmd("tail", "project:scratch", "session:none", *more)
        assert done.returncode == 1
        assert done.stderr == b"agentcmd: there is no channel session:none\n"
    assert serving.process.poll() is None


def test_a_reader_of_tail_that_leaves_is_no_failure_of_ours(serving):
    following = subprocess.Popen(
        [*AGENTCMD, "tail", "project:scratch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=serving.environ,
    )
    assert b"project.created" in following.stdout.readline()
    following.stdout.close()
    add = ["project", "add", str(serving.state_dir), "--name", "x"]
    subprocess.run([*AGENTCMD, *add], env=serving.environ, check=True, stdout=subprocess.DEVNULL)
    run = [*AGENTCMD, "call", "session.create", '{"agent":"command","argv":["true"]}']
    subprocess.run(run, env=serving.environ, check=True, stdout=subprocess.DEVNULL)
    assert following.wait(10) == 141
    assert following.stderr.read() == b""
    following.stderr.close()


def test_token_prints_a_token_and_nothing_else(agentcmd, serving):
    token = agentcmd("token", "--user", "me", "--scope", "read:session:*", "--ttl", "1m")
    assert token.stdout.count(b".") == 2
    assert token.stdout.count(b"\n") == 1
    url = json.loads((serving.state_dir / "daemon.json").read_text())["url"]
    there = ("--url", url, "--token", token.stdout.decode().strip())
    assert agentcmd("call", "session.list", *there).returncode == 0
    done = agentcmd("call", "session.create", '{"agent":"command","argv":["true"]}', *there)
    assert done.returncode == 1
    assert b"does not grant write:project:*" in done.stderr


def test_logs_are_filtered(serving, agentcmd):
    data = json.dumps({"agent": "command", "argv": ["true"]})
    created = json.loads(agentcmd("call", "session.create", data).stdout)["sessionId"]
    serving.stop()
    records = [
        json.loads(line)
        for line in agentcmd("logs", "--json", "--task", created).stdout.split(b"\n")[:-1]
    ]
    assert [r["event"] for r in records] == ["task.started", "task.ended"]
    assert b"daemon.started" in agentcmd("logs", "--since", "1h").stdout
    assert agentcmd("logs", "--level", "error").stdout == b""


@pytest.mark.usefixtures("serving")
def test_projects(agentcmd, tmp_path):
    added = agentcmd("project", "add", str(tmp_path), "--name", "here").stdout.decode().strip()
    assert added in agentcmd("project", "list").stdout.decode()
    assert agentcmd("project", "remove", added).returncode == 0
    assert added not in agentcmd("project", "list").stdout.decode()
    assert agentcmd("project", "remove", added).returncode == 1


def test_doctor_says_each_thing_in_a_line(agentcmd):
    done = agentcmd("doctor")
    assert done.returncode == 0
    assert all(line.split()[0] in ("ok", "note") for line in done.stdout.decode().splitlines())


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "do something"],
        ["run", "--agent", "nobody", "--", "x"],
        ["run", "--env", "novalue", "--", "true"],
        ["token", "--ttl", "soon"],
        ["token", "--scope", "all"],
        ["serve", "--port", "x"],
        ["status", "--", "x"],
        ["call", "session.list", "{"],
        ["call", "session.list", "[]"],
        ["tail", "no channel"],
        ["tail", "session:*", "--no-follow"],
        ["logs", "--since", "yesterday"],
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_right(agentcmd, args):
    done = agentcmd(*args)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert done.stdout == b""


def test_settings_that_do_not_fit_stop_the_start(agentcmd, tmp_path):
    config = tmp_path / "bad.toml"
    for text, told in (
        ("[server]\nprot = 1\n", ["bad.toml", "server", "prot", "port"]),
        ("[server]\nport = 'x'\n", ["bad.toml", "server.port"]),
        ("[log]\nlevel = 'loud'\n", ["bad.toml", "log.level"]),
        ("[", ["bad.toml", "TOML"]),
    ):
        config.write_text(text)
        done = agentcmd("serve", "--config", str(config))
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1
        for part in told:
            assert part in done.stderr.decode()
    done = agentcmd("serve", env={"AGENTCMD_SERVER__PROT": "1"})
    assert (done.returncode, b"AGENTCMD_SERVER__PROT" in done.stderr) == (2, True)
    done = agentcmd("serve", env={"AGENTCMD_SERVER__HOST": "0.0.0.0"})
    assert (done.returncode, b"--host" in done.stderr) == (2, True)


def test_help_and_version(agentcmd):
    assert agentcmd("--version").stdout.decode() == f"agentcmd {__version__}\n"
    for command in ("run", "serve", "token", "status", "ps", "tail", "call", "logs", "doctor"):
        done = agentcmd(command, "--help")
        assert done.returncode == 0
        assert b"usage: agentcmd" in done.stdout


def test_a_unix_socket_is_ours_alone(environ, agentcmd, tmp_path):
    path = tmp_path / "own.sock"
    serving = subprocess.Popen(
        [*AGENTCMD, "serve", "--uds", str(path)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert f"unix:{path}".encode() in serving.stdout.readline()
    assert path.stat().st_mode & 0o777 == 0o600
    assert agentcmd("status").returncode == 0
    serving.terminate()
    assert serving.wait(10) == 0
    serving.stdout.close()
    assert not path.exists()
