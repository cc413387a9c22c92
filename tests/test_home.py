"""The state dir: one owner, one address, and what a dead daemon leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import textwrap

import pytest

from daemon import home
from daemon.core import orphans
from daemon.core.errors import Conflict, Unavailable
from daemon.core.spawner import start_time
from daemon.home import Address, alive, discover, owned, publish, socket_path, withdraw
from daemon.log import FILE_NAME
from daemon.web.auth import SECRET_NAME


def ours(**fields):
    return Address(**{"pid": os.getpid(), "start_time": start_time(os.getpid()), **fields})


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_state_dir_has_one_owner_and_the_second_is_told_who(tmp_path):
    state_dir = tmp_path / "deep" / "state"
    with owned(state_dir):
        with pytest.raises(Conflict, match=f"pid {os.getpid()}.*agentcmd stop"), owned(state_dir):
            pass
        assert state_dir.stat().st_mode & 0o777 == 0o700
    with owned(state_dir):
        pass


def test_the_lock_of_a_killed_owner_is_free(tmp_path):
    script = f"""
        import sys, time
        sys.path.insert(0, {str(home.__file__).rsplit("/", 2)[0]!r})
        from pathlib import Path
        from daemon.home import owned
        with owned(Path({str(tmp_path)!r})):
            print("mine", flush=True)
            time.sleep(100)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "mine\n"
    with pytest.raises(Conflict, match=f"pid {owner.pid}"), owned(tmp_path):
        pass
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with owned(tmp_path):
        pass


def test_a_child_does_not_inherit_the_lock(tmp_path):
    with owned(tmp_path):
        child = subprocess.Popen(["sleep", "100"], close_fds=False)
    with owned(tmp_path):
        child.kill()
        child.wait()


def test_a_file_in_the_place_of_the_state_dir_is_a_sentence(tmp_path):
    (tmp_path / "state").touch()
    with pytest.raises(Unavailable, match=r"choose .* with --state-dir"), owned(tmp_path / "state"):
        pass


def test_a_file_system_without_locks_is_not_taken_for_another_daemon(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(Unavailable, match=r"cannot lock .*No locks available"), owned(tmp_path):
        pass


def test_what_is_published_is_discovered_until_it_is_withdrawn(tmp_path):
    address = ours(url="http://127.0.0.1:4100", version="1")
    publish(tmp_path, address)
    assert discover(tmp_path) == address
    assert (tmp_path / "daemon.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["daemon.json"]
    withdraw(tmp_path)
    withdraw(tmp_path)
    assert discover(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '"x"', "{}", '{"pid":0}', '{"pid":-1}', '{"pid":99999999999}'),
        *('{"pid":"1"}', '{"pid":4194304}', '{"pid":1,"startTime":1}', "\xff"),
    ],
)
def test_whatever_a_dead_daemon_left_behind_is_no_daemon(tmp_path, text):
    (tmp_path / "daemon.json").write_bytes(text.encode("latin-1"))
    assert discover(tmp_path) is None


def test_a_process_that_has_ended_or_has_another_beginning_is_not_the_one():
    assert alive(ours())
    assert alive(ours(start_time=None))
    assert not alive(ours(start_time=1))
    assert not alive(Address(pid=ended_process()))


def test_a_zombie_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(Address(pid=process.pid, start_time=start_time(process.pid)))
    process.stdout.close()
    process.wait()


def test_a_socket_is_in_the_state_dir_unless_its_path_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert str(socket_path(home.Path("/s"))) == "/s/agentcmd.sock"
    long = tmp_path / ("x" * 120)
    path = socket_path(long)
    assert path == socket_path(long)
    assert path != socket_path(tmp_path / ("y" * 120))
    assert path.parent.parent == tmp_path
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o755)
    with pytest.raises(Unavailable, match="not ours alone"):
        socket_path(long)


def test_a_runtime_dir_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    with pytest.raises(Unavailable, match="choose a shorter --state-dir"):
        socket_path(tmp_path / ("x" * 120))


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
@pytest.mark.parametrize("whole", [False, True])
def test_a_state_dir_whose_lock_was_removed_has_one_daemon_all_the_same(tmp_path, whole):
    state = tmp_path / "state"
    with home.owned(state):
        (state / home.LOCK).unlink()
        if whole:
            state.rmdir()
        with pytest.raises(Conflict, match=f"pid {os.getpid()}"), home.owned(state):
            pass
        other = tmp_path / "other"
        with home.owned(other):
            pass
    with home.owned(state):
        pass


def test_names_that_are_looked_at_are_those_that_are_used():
    assert {SECRET_NAME, f"log/{FILE_NAME}"} <= set(home.FILES)
    assert orphans.FOLDER in home.FOLDERS
