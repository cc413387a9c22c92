"""agentcmd token: a JWT on stdout and nothing else."""

from __future__ import annotations

import json
import time

import jwt


def read(token):
    return jwt.decode(token, options={"verify_signature": False})


def test_it_prints_a_token_and_nothing_else_also_where_no_daemon_ever_ran(agentcmd, tmp_path):
    done = agentcmd("token", "--user", "me", "--scope", "read:session:*", "--scope", "write:*")
    assert (done.stdout.count(b"\n"), done.stderr) == (1, b"")
    claims = read(done.stdout.decode().strip())
    assert (claims["sub"], claims["scope"]) == ("me", "read:session:* write:*")
    assert 12 * 3600 - 60 < claims["exp"] - time.time() <= 12 * 3600 + 1
    secret = tmp_path / "state" / "jwt.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.parent.stat().st_mode & 0o777 == 0o700


def test_the_daemon_takes_it_as_far_as_its_scope_goes(agentcmd, serving):
    token = agentcmd("token", "--scope", "read:session:*", "--ttl", "1m").stdout.decode().strip()
    url = json.loads((serving.state_dir / "daemon.json").read_text())["url"]
    there = ("--url", url, "--token", token)
    assert agentcmd("call", "session.list", *there).returncode == 0
    done = agentcmd("call", "session.create", '{"agent":"command","argv":["true"]}', *there)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"does not grant write:project:*" in done.stderr


def test_a_token_that_has_expired_is_one_line_that_says_how_to_make_one(agentcmd, serving):
    token = agentcmd("token", "--ttl", "0.1s").stdout.decode().strip()
    while read(token)["exp"] > time.time():
        time.sleep(0.05)
    done = agentcmd("status", "--token", token)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"agentcmd token" in done.stderr
    assert serving.process.poll() is None


def test_none_is_made_with_another_secret_than_that_of_the_daemon(agentcmd, serving):
    secret = serving.state_dir / "jwt.secret"
    away = secret.rename(serving.state_dir / "away")
    for command in ("ps", "token"):
        done = agentcmd(command)
        assert done.returncode != 0
        assert b"jwt.secret is missing" in done.stderr
        assert done.stderr.count(b"\n") == 1
    assert not secret.exists()
    away.rename(secret)
    assert agentcmd("ps").returncode == 0
