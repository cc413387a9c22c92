"""The command line as a whole: help, version, usage errors, and one line for every failure."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile

import pytest

from daemon import __version__
from daemon.cli.main import main

COMMANDS = "run serve token status stop ps cancel kill tail call logs project doctor".split()  # noqa: SIM905


def given(capsys, *args):
    """Run a command line in this process; gives code, output, errors."""
    try:
        code = main(args)
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_version_is_ours(capsys):
    assert given(capsys, "--version") == (0, f"agentcmd {__version__}\n", "")


@pytest.mark.parametrize("command", [*COMMANDS, "project add", "project list", "project remove"])
def test_every_command_has_help(capsys, command):
    code, out, err = given(capsys, *command.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: agentcmd {command}")
    assert "--state-dir" in out or command == "project"


def test_the_help_lists_every_command_and_says_how_to_begin(capsys):
    _, out, _ = given(capsys, "--help")
    assert all(f"    {command} " in out for command in COMMANDS)
    assert "agentcmd run -- CMD" in out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "COMMAND"),
        ("fly", "'fly' (choose from 'run'"),
        ("run", "agentcmd run -- ls -l"),
        ("run --", "agentcmd run -- ls -l"),
        ("run do something", "after --"),
        ("run --agent nobody -- x", "agentcmd run -- CMD"),
        ("run --env novalue -- true", "K=V"),
        ("run --env =x -- true", "K=V"),
        ("run --frob -- true", "--frob"),
        ("token --ttl soon", "as in 12h"),
        ("token --ttl 0s", "as in 12h"),
        ("token --scope all", "as in read:session:*"),
        ("token --scope read:", "domain:id"),
        ("serve --port x", "agentcmd serve --help"),
        ("serve --port 70000", "65535"),
        ("serve --config /does/not/exist", "/does/not/exist"),
        ("status -- x", "--help"),
        ("status --url garbage", "http://HOST:PORT"),
        ("status --url http://", "http://HOST:PORT"),
        ("status --url http://[", "http://HOST:PORT"),
        ("call session.list {", "JSON"),
        ("call session.list []", "JSON object"),
        ("call", "type"),
        ("tail", "channel"),
        ("tail nochannel", "session:123"),
        ("tail session:*  --no-follow", "pattern"),
        ("tail session:a --since yesterday", "--since"),
        ("logs --since yesterday", "15m"),
        ("logs --level loud", "warning"),
        ("project", "ACTION"),
        ("cancel", "id"),
    ],
)
def test_wrong_usage_exits_2_with_one_line_that_says_what_is_right(capsys, line, told):
    code, out, err = given(capsys, *line.split())
    assert (code, out) == (2, "")
    assert err.startswith("agentcmd: ")
    assert err.count("\n") == 1
    assert told in err


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "stop",
        "ps",
        "cancel x",
        "kill x",
        "tail session:x",
        "call session.list",
        "project list",
        "status --url http://127.0.0.1:9 --token x",
        "run --url http://127.0.0.1:9 --token x -- true",
        "status --url unix:/does/not/exist --token x",
    ],
)
def test_without_a_daemon_the_exit_code_is_3_and_the_next_step_is_told(capsys, line):
    args, _, command = line.partition(" -- ")
    code, out, err = given(capsys, *args.split(), *(["--", command] if command else []))
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "agentcmd serve" in err or line == "stop"


def test_the_daemon_of_another_machine_needs_a_token(capsys):
    code, _, err = given(capsys, "status", "--url", "http://127.0.0.1:9")
    assert code == 3
    assert "--token" in err


@pytest.mark.parametrize("command", ["run -- true", "serve --port 0", "token"])
def test_a_state_dir_that_cannot_be_is_one_line_that_says_what_to_do(agentcmd, tmp_path, command):
    (tmp_path / "file").write_text("")
    before, dashes, after = command.partition(" -- ")
    line = [*before.split(), "--state-dir", str(tmp_path / "file" / "x")]
    done = agentcmd(*line, *([dashes.strip(), after] if after else []))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert str(tmp_path / "file").encode() in done.stderr
    assert b"--state-dir" in done.stderr


def test_a_variable_that_is_no_setting_stops_every_command(agentcmd):
    done = agentcmd("status", env={"AGENTCMD_STATE_DIR": "/x"})
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"AGENTCMD_STATE_DIR" in done.stderr
    assert b"AGENTCMD_SECTION__KEY" in done.stderr


def test_a_user_without_a_name_or_a_home_is_served_or_told_what_to_set(monkeypatch, capsys):
    for name in ("USER", "LOGNAME", "HOME", "LNAME", "USERNAME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", _nobody)  # as in a container with a uid of its own
    with tempfile.TemporaryDirectory() as state:
        code, out, err = given(capsys, "token", "--state-dir", state)
    assert (code, err) == (0, "")
    assert out.count(".") == 2
    code, out, err = given(capsys, "token")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--state-dir" in err


def _nobody(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def test_ctrl_c_while_it_is_still_loaded_ends_it_without_a_word(begin, environ, tmp_path):
    interrupting = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "getpass.py").write_text(interrupting)  # one of the modules that are loaded
    path = os.pathsep.join([str(tmp_path), environ["PYTHONPATH"]])
    began = begin("status", env={"PYTHONPATH": path}, stderr=subprocess.PIPE)
    assert began.communicate(timeout=30) == (b"", b"")
    assert began.returncode == -signal.SIGINT
