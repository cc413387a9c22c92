"""agentcmd serve: one line when it listens, one line when it does not."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.request

import pytest
from support import free_port

from daemon.home import Address, publish


def listening(process):
    line = process.stdout.readline().decode()
    assert " listening on " in line
    return line.rsplit(" ", 1)[1].strip()


def test_it_prints_one_line_with_its_url_and_drains_at_sigterm_and_sigint(begin):
    for ending in ("terminate", "send_signal"):
        process = begin("serve", "--port", "0", stderr=subprocess.PIPE)
        line = process.stdout.readline().decode()
        assert re.fullmatch(r"agentcmd \S+ listening on http://127\.0\.0\.1:\d+\n", line)
        url = line.split()[-1]
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert json.load(answer)["status"] == "ok"
        getattr(process, ending)(*([2] if ending == "send_signal" else []))
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, b"")
        assert all(json.loads(each) for each in err.splitlines())


def test_its_state_is_private(serving):
    state = serving.state_dir
    for folder in (state, state / "log", state / "scratch"):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    for name in ("jwt.secret", "daemon.json", "agentcmd.db", "lock"):
        assert (state / name).stat().st_mode & 0o077 == 0, name
    assert (state / "jwt.secret").stat().st_mode & 0o777 == 0o600


def test_the_log_lies_where_a_unit_has_it_and_is_found_from_the_state_dir(
    begin, agentcmd, tmp_path
):
    for name in ("first", "second"):
        (tmp_path / name).mkdir(mode=0o700)
        env = {"LOGS_DIRECTORY": f"{tmp_path / name}:/elsewhere"}
        serving = begin("serve", "--port", "0", env=env, stderr=subprocess.DEVNULL)
        listening(serving)
        serving.terminate()
        assert serving.wait(30) == 0
        assert b"daemon.started" in (tmp_path / name / "agentcmd.jsonl").read_bytes()
        assert b"daemon.started" in agentcmd("logs").stdout
        shutil.rmtree(tmp_path / name)


def test_daemon_json_says_where_it_is_and_goes_with_it(serving):
    told = json.loads((serving.state_dir / "daemon.json").read_text())
    assert told["pid"] == serving.pid
    assert told["url"].startswith("http://127.0.0.1:")
    assert serving.stop() == 0
    assert not (serving.state_dir / "daemon.json").exists()


def test_a_second_daemon_is_told_who_holds_the_state_dir(serving, agentcmd):
    done = agentcmd("serve", "--port", "0")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert f"pid {serving.pid}".encode() in done.stderr
    assert b"agentcmd stop" in done.stderr
    assert agentcmd("status").returncode == 0


def test_a_daemon_beside_a_run_that_brought_one_is_told_so(agentcmd, begin):
    running = begin("run", "--", "sh", "-c", "echo ready; sleep 300")
    assert running.stdout.readline() == b"ready\n"
    done = agentcmd("serve", "--port", "0")
    assert done.returncode == 1
    assert f"pid {running.pid}".encode() in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_cannot_be_had_is_one_line(agentcmd, host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = agentcmd("serve", "--port", port, "--host", host)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert f"{host}:{port}".encode() in done.stderr
    assert b"--port" in done.stderr


def test_a_unix_socket_is_ours_alone_and_found_by_itself(begin, agentcmd, tmp_path):
    path = tmp_path / "own.sock"
    path_of_dead = socket.socket(socket.AF_UNIX)
    path_of_dead.bind(str(path))  # as a daemon leaves it that was killed
    path_of_dead.close()
    serving = begin("serve", "--uds", str(path), stderr=subprocess.DEVNULL)
    assert listening(serving) == f"unix:{path}"
    assert path.stat().st_mode & 0o777 == 0o600
    assert agentcmd("status").returncode == 0
    assert agentcmd("status", "--url", f"unix:{path}").returncode == 0
    assert agentcmd("run", "--", "echo", "hi").stdout == b"hi\n"
    serving.terminate()
    assert serving.wait(30) == 0
    assert not path.exists()


@pytest.mark.parametrize("name", ["taken.sock", "file", "none/x.sock"])
def test_a_unix_socket_that_cannot_be_had_is_one_line_and_what_is_there_stays(
    agentcmd, tmp_path, name
):
    path = tmp_path / name
    with socket.socket(socket.AF_UNIX) as taken:
        if name == "taken.sock":
            taken.bind(str(path))
            taken.listen()
        elif name == "file":
            path.write_text("precious")
        done = agentcmd("serve", "--uds", str(path))
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert str(path).encode() in done.stderr
        assert path.exists() == (name != "none/x.sock")


def test_what_a_dead_daemon_left_is_no_obstacle(serving, agentcmd):
    serving.kill()
    left = {path.name for path in serving.state_dir.iterdir()}
    assert {"daemon.json", "lock"} <= left
    assert agentcmd("status").returncode == 3
    serving.start()
    assert agentcmd("status").returncode == 0


def test_an_address_of_a_pid_that_is_somebody_elses_now_is_no_daemon(agentcmd, tmp_path):
    (tmp_path / "state").mkdir()
    publish(tmp_path / "state", Address(pid=1, start_time=1, url="http://127.0.0.1:9"))
    assert agentcmd("status").returncode == 3
    (tmp_path / "state" / "daemon.json").write_text("{half")
    assert agentcmd("status").returncode == 3
    assert agentcmd("run", "--", "echo", "hi").stdout == b"hi\n"


# Configuration


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nprot = 1\n", ["bad.toml", "server", "prot", "port"]),
        ("[sevrer]\nport = 1\n", ["bad.toml", "sevrer", "server"]),
        ("[server]\nport = 'x'\n", ["bad.toml", "server.port", "int"]),
        ("[log]\nlevel = 'loud'\n", ["bad.toml", "log.level"]),
        ("[", ["bad.toml", "TOML"]),
    ],
)
def test_a_configuration_that_does_not_fit_stops_the_start(agentcmd, tmp_path, text, told):
    config = tmp_path / "bad.toml"
    config.write_text(text)
    done = agentcmd("serve", "--config", str(config))
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    for part in told:
        assert part in done.stderr.decode()
    assert not (tmp_path / "state").exists()


def test_flags_override_the_environment_which_overrides_the_file(begin, tmp_path):
    config = tmp_path / "good.toml"
    free = free_port()
    config.write_text("[server]\nport = 1\n[log]\nlevel = 'error'\n")
    env = {"AGENTCMD_SERVER__PORT": str(free)}
    by_environment = begin("serve", "--config", str(config), env=env, stderr=subprocess.DEVNULL)
    assert listening(by_environment).endswith(f":{free}")
    by_environment.terminate()
    assert by_environment.wait(30) == 0
    assert (tmp_path / "state" / "log" / "agentcmd.jsonl").read_text() == ""
    by_flag = begin("serve", "--port", "0", "--config", str(config), stderr=subprocess.DEVNULL)
    assert not listening(by_flag).endswith((":1", f":{free}"))


def test_leaving_loopback_is_said_on_the_command_line(agentcmd, begin):
    done = agentcmd("serve", "--port", "0", env={"AGENTCMD_SERVER__HOST": "0.0.0.0"})
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"--host 0.0.0.0" in done.stderr
    serving = begin("serve", "--port", "0", "--host", "0.0.0.0", stderr=subprocess.DEVNULL)
    assert listening(serving).startswith("http://0.0.0.0:")
    assert agentcmd("status").returncode == 0
