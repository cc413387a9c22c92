"""Who gets a token that is made here."""

from __future__ import annotations

import argparse
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest

from daemon import home
from daemon.cli.connect import client, is_local, is_own
from daemon.home import Address


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("unix:/run/agentcmd.sock", True),
        ("http://localhost:4100", True),
        ("http://LOCALHOST", True),
        ("http://127.0.0.1:4100", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:4100", True),
        ("http://192.0.2.1:4100", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1@evil.example:4100", False),
        ("http://0.0.0.0:4100", False),
        ("https://agents.example", False),
    ],
)
def test_local_is_what_cannot_lead_to_another_machine(url, local):
    assert is_local(url) is local


@pytest.mark.parametrize("given", ["flag", "environment"])
@pytest.mark.parametrize(
    "command", [["status"], ["ps"], ["call", "session.list"], ["run", "--", "true"]]
)
def test_another_machine_gets_no_token_that_is_made_here(agentcmd, command, given):
    agentcmd("token")  # there is a secret to make one with
    url = "http://agents.invalid:4100"
    if given == "flag":
        done = agentcmd(command[0], "--url", url, *command[1:])
    else:
        done = agentcmd(*command, env={"AGENTCMD_URL": url})
    assert done.returncode not in (0, 3)
    assert b"--token" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_token_that_is_given_goes_where_it_is_to_go(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    args = argparse.Namespace(
        url="http://agents.invalid", token="given", state_dir=None, config=None
    )
    assert client(args)._token() == "given"


@pytest.mark.parametrize(
    ("url", "own"),
    [("http://192.0.2.1:4100/", True), ("http://192.0.2.2:4100", False), ("", False)],
)
def test_the_daemon_of_this_state_dir_is_ours_wherever_it_listens(tmp_path, url, own):
    assert is_own(url, tmp_path) is False
    home.publish(
        tmp_path, Address(pid=os.getpid(), start_time=None, url="http://192.0.2.1:4100", socket="")
    )
    assert is_own(url, tmp_path) is own


def test_whoever_answers_on_loopback_gets_a_token_of_an_hour_at_most(agentcmd):
    seen = []

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization", ""))
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        agentcmd("token")
        url = f"http://127.0.0.1:{server.server_port}"
        assert agentcmd("ps", env={"AGENTCMD_URL": url}).returncode == 3
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    (shown,) = seen
    claims = jwt.decode(shown.removeprefix("Bearer "), options={"verify_signature": False})
    assert claims["exp"] - time.time() < 3602
