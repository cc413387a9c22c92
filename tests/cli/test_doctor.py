"""agentcmd doctor: one line each, with the fix."""

from __future__ import annotations

import os

import pytest


def lines(done):
    return [line.split(maxsplit=1) for line in done.stdout.decode().splitlines()]


def test_all_is_well_where_nothing_has_run(agentcmd):
    done = agentcmd("doctor")
    assert (done.returncode, done.stderr) == (0, b"")
    assert {state for state, _ in lines(done)} <= {"ok", "note"}
    assert any("made at the first start" in what for _, what in lines(done))


def test_what_is_wrong_is_named_with_its_fix_and_fails(agentcmd, tmp_path):
    assert agentcmd("token").returncode == 0
    state = tmp_path / "state"
    (state / "jwt.secret").chmod(0o644)
    state.chmod(0o755)
    done = agentcmd("doctor")
    assert done.returncode == 1
    bad = [what for state, what in lines(done) if state == "bad"]
    assert len(bad) == 2
    assert bad[0].endswith(f"chmod 700 {state}")
    assert bad[1].endswith(f"chmod 600 {state / 'jwt.secret'}")


def test_a_file_in_place_of_the_state_dir_is_found(agentcmd, tmp_path):
    (tmp_path / "state").write_text("")
    done = agentcmd("doctor")
    assert done.returncode == 1
    assert b"is not a folder" in done.stdout


def test_agents_are_found_by_setting_or_path_with_their_version(agentcmd, tmp_path):
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, script in (("codex", "echo codex-cli 1.2.3"), ("mine", "echo 2.1.0 '(Claude Code)'")):
        (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_ / name).chmod(0o755)
    env = {"PATH": f"{bin_}:/usr/bin:/bin", "AGENTCMD_AGENTS__CLAUDE__PATH": str(bin_ / "mine")}
    told = agentcmd("doctor", env=env).stdout.decode()
    assert f"codex codex-cli 1.2.3 at {bin_ / 'codex'}" in told
    assert f"claude 2.1.0 (Claude Code) at {bin_ / 'mine'}" in told
    gone = {**env, "AGENTCMD_AGENTS__CLAUDE__PATH": str(bin_ / "none")}
    done = agentcmd("doctor", env=gone)
    assert done.returncode == 1
    assert b"set [agents.claude] path" in done.stdout


def test_a_daemon_that_runs_is_named(serving, agentcmd):
    assert f"pid {serving.pid}" in agentcmd("doctor").stdout.decode()


HARMFUL = ("rm ", "delete it", "remove it", "begins anew without")


def bad_of(done):
    """Give what is bad, of a doctor that fails, ends in no traceback and destroys nothing."""
    assert done.returncode == 1, done
    assert b"Traceback" not in done.stdout + done.stderr
    found = [what for state, what in lines(done) if state == "bad"]
    assert not [each for each in found for harm in HARMFUL if harm in each]
    return found


@pytest.fixture
def used(serving, agentcmd):
    """A state dir that a daemon has left."""
    assert agentcmd("call", "project.list").returncode == 0
    serving.stop()
    return serving.state_dir


def test_a_sound_state_dir_is_well_and_stays_as_it_is(used, agentcmd):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in used.iterdir())
    told = agentcmd("doctor").stdout.decode()
    assert f"the database {used / 'agentcmd.db'} is sound" in told
    assert sorted((path.name, path.stat().st_mtime_ns) for path in used.iterdir()) == before


@pytest.mark.parametrize("damage", ["garbage", "truncated", "flipped", "empty", "folder"])
def test_a_damaged_database_is_found(used, agentcmd, damage):
    path = used / "agentcmd.db"
    whole = path.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(
            {
                "garbage": b"this is no database" * 1000,
                "truncated": whole[: 2 * page],
                "flipped": whole[:page] + bytes(255 - each for each in whole[page:]),
                "empty": b"",
            }[damage]
        )
    (found,) = bad_of(agentcmd("doctor"))
    assert str(path) in found


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_secret_that_is_none_is_found(used, agentcmd, content):
    (used / "jwt.secret").write_bytes(content)
    (found,) = bad_of(agentcmd("doctor"))
    assert str(used / "jwt.secret") in found
    assert "backup" in found


def test_a_folder_in_place_of_the_lock_is_found(used, agentcmd):
    (used / "lock").unlink()
    (used / "lock").mkdir()
    (found,) = bad_of(agentcmd("doctor"))
    assert "is a folder" in found


@pytest.mark.usefixtures("used")
def test_a_full_disk_is_found(agentcmd):
    env = {"AGENTCMD_GUARD__FREE_BYTES": str(1 << 60)}
    (found,) = bad_of(agentcmd("doctor", env=env))
    assert "MiB left: free some of it" in found


def is_folder(path):
    path.mkdir()


def is_pipe(path):
    os.mkfifo(path)


def is_loop(path):
    path.symlink_to(path.name)


def is_file(path):
    path.touch()


@pytest.mark.parametrize(
    ("name", "made", "told"),
    [
        ("agentcmd.db", is_folder, "is a folder, and should be a file"),
        ("agentcmd.db", is_pipe, "is a pipe, and should be a file"),
        ("agentcmd.db", is_loop, "Too many levels of symbolic links"),
        ("daemon.json", is_folder, "is a folder, and should be a file"),
        ("jwt.secret", is_pipe, "is a pipe, and should be a file"),
        ("log", is_file, "is a file, and should be a folder"),
        ("scratch", is_file, "is a file, and should be a folder"),
    ],
)
def test_what_is_in_the_place_of_ours_is_named_by_doctor_serve_and_run(
    agentcmd, tmp_path, name, made, told
):
    state_dir = tmp_path / "own"
    state_dir.mkdir(mode=0o700)
    made(state_dir / name)
    here = ("--state-dir", str(state_dir))
    found = bad_of(agentcmd("doctor", *here))
    assert [told in each for each in found][:1] == [True]
    for line in (("serve", "--port", "0", *here), ("run", *here, "--", "true")):
        done = agentcmd(*line)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1), done
        assert told.encode() in done.stderr
        assert str(state_dir / name).encode() in done.stderr
    assert [each.name for each in state_dir.iterdir()] == [name]
