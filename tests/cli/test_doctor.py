"""agentcmd doctor: one line each, with the fix."""

from __future__ import annotations


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
