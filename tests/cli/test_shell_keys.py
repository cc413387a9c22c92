"""Keys at a terminal that shows one of the daemon's: which detach, and which the program gets."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BYTES = """
import os, tty
tty.setraw(0)
os.write(1, b"ready\\r\\n")
while got := os.read(0, 1000):
    os.write(1, b"<" + got.hex(" ").encode() + b">\\r\\n")
"""
"""A program that shows the bytes which it gets."""

SHOWS = ("--", sys.executable, "-c", BYTES)


@pytest.fixture(scope="module")
def environ(shared_environ):
    return shared_environ


@pytest.fixture(scope="module", autouse=True)
def serving(shared_daemon):
    return shared_daemon


def greeting(seat, told):
    """Wait for the program; gives the id of the terminal, of which is told how one detaches."""
    found = re.search(rb"terminal (\w+); (.*)\r\n", seat.until(b"ready\r\n"))
    assert found[2].decode() == told
    return found[1].decode()


def test_the_key_twice_is_the_programs_and_once_detaches(terminal):
    seat = terminal("shell", *SHOWS)
    id_ = greeting(seat, "Ctrl-] detaches")
    seat.type(b"\x1d\x1d")
    seat.until(b"<1d>")
    seat.type(b"\x1d")
    seat.type(b"\x1d")
    seat.type(b"x")
    seat.until(b"78>")
    assert seat.seen.count(b"1d") == 2
    seat.type(b"y\x1d")
    assert seat.end() == 0
    assert b"<79>" in seat.seen
    assert f"detached; 'agentcmd attach {id_}' comes back".encode() in seat.seen


def test_another_key_detaches_and_the_usual_one_is_the_programs(terminal):
    id_ = greeting(terminal("shell", "--detach-key", "^A", *SHOWS), "Ctrl-A detaches")
    seat = terminal("attach", "--detach-key", "ctrl-\\", id_)
    greeting(seat, "Ctrl-\\ detaches")
    seat.type(b"\x1d\x01")
    seat.until(b"<1d 01>")
    seat.type(b"\x1c")
    assert seat.end() == 0


def test_the_variable_names_the_key_where_no_option_does(terminal, environ, monkeypatch):
    monkeypatch.setitem(environ, "AGENTCMD_DETACH_KEY", "none")
    seat = terminal("shell", *SHOWS)
    greeting(seat, "no key detaches")
    seat.type(b"\x1d")
    seat.until(b"<1d>")
    seat.type(b"\x1b")
    seat.until(b"<1b>")
    other = terminal("shell", "--detach-key", "ctrl-b", *SHOWS)
    greeting(other, "Ctrl-B detaches")
    other.type(b"\x02")
    assert other.end() == 0


@pytest.mark.parametrize("key", [b"\x1b[93;5u", b"\x1b[27;5;93~"])
def test_a_key_that_comes_in_pieces_detaches(terminal, key):
    seat = terminal("shell", *SHOWS)
    greeting(seat, "Ctrl-] detaches")
    for piece in (key[:2], *(key[at : at + 1] for at in range(2, len(key)))):
        seat.type(piece)
        time.sleep(0.01)  # so that each is a read of its own
    assert seat.end() == 0
    assert not re.search(rb"<[0-9a-f ]+>", seat.seen)


def test_what_is_pasted_into_a_program_that_asked_for_it_never_detaches(terminal):
    seat = terminal("shell", *SHOWS)
    greeting(seat, "Ctrl-] detaches")
    seat.type(b"\x1b[200~a\x1db")
    seat.until(b"<1b 5b 32 30 30 7e 61 1d 62>")
    time.sleep(0.5)  # longer than a key would wait for another
    seat.type(b"c\x1b[201~")
    seat.until(b"<63 1b 5b 32 30 31 7e>")
    seat.type(b"\x1d")
    assert seat.end() == 0


@pytest.mark.parametrize("name", ["ctrl-i", "ctrl-m", "ctrl-[", "ctrl-h", "enter"])
@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_key_that_cannot_detach_is_refused_before_a_terminal_is_made(agentcmd, name, by):
    before = agentcmd("shell", "list", "--json").stdout
    option = ("--detach-key", name) if by == "option" else ()
    env = {} if by == "option" else {"AGENTCMD_DETACH_KEY": name}
    done = agentcmd("shell", *option, *SHOWS, env=env)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert (b"AGENTCMD_DETACH_KEY" in done.stderr) is (by == "variable")
    assert agentcmd("shell", "list", "--json").stdout == before


def test_a_session_has_no_such_key(agentcmd):
    made = agentcmd("call", "session.create", '{"agent": "command", "argv": ["sleep", "60"]}')
    session = json.loads(made.stdout)["sessionId"]
    done = agentcmd("attach", "--detach-key", "ctrl-a", session)
    assert done.returncode == 2
    assert b"--detach-key is for terminals" in done.stderr
    agentcmd("call", "session.kill", json.dumps({"sessionId": session}))


# In one of ours


WITHIN = f"cd {ROOT}; PS1='now> '; say() {{ echo \"[code $1]\"; }}; echo rea''dy"


def in_a_shell(terminal):
    """Open a terminal with a shell, and return it with its id."""
    seat = terminal("shell", "--", "sh")
    seat.type(f"{WITHIN}\r".encode())
    seat.until(b"ready\r\n")
    return seat, re.search(rb"terminal (\w+);", seat.seen)[1].decode()


def test_one_that_shows_a_terminal_in_itself_is_refused_with_a_sentence(
    terminal, environ, folder, agentcmd
):
    state = environ["AGENTCMD_SERVER__STATE_DIR"]
    ours = f"{sys.executable} -m daemon"
    seat, id_ = in_a_shell(terminal)
    seat.type(f"{ours} attach --state-dir {state} {id_}; say $?\r".encode())
    told = seat.until(b"[code 1]\r\n")
    assert f"agentcmd: you are in the terminal {id_}, which would show itself".encode() in told
    # By way of another one, in which somebody looks at the first.
    seat.seen = b""
    seat.type(f"{ours} shell --state-dir {state} --detach-key ctrl-b {folder} -- sh\r".encode())
    inner = re.search(rb"terminal (\w+);", seat.until(b"Ctrl-B detaches"))[1].decode()
    seat.type(f"{WITHIN}\r".encode())
    seat.until(b"ready\r\n")
    seat.type(f"{ours} attach --state-dir {state} {id_}; say $?\r".encode())
    assert b"would show itself" in seat.until(b"[code 1]\r\n")
    seat.type(b"\x02")
    seat.until(f"attach {inner}".encode())
    seat.type(b"\x1d")
    assert seat.end() == 0
    listed = {each["id"]: each for each in json.loads(agentcmd("shell", "list", "--json").stdout)}
    assert {listed[each]["state"] for each in (id_, inner)} == {"running"}


def test_one_that_prints_its_own_output_is_refused_and_a_pattern_leaves_it_out(
    terminal, environ, agentcmd
):
    ours = f"{sys.executable} -m daemon tail --state-dir {environ['AGENTCMD_SERVER__STATE_DIR']}"
    seat, id_ = in_a_shell(terminal)
    seat.type(f"{ours} shell:terminal:{id_}; say $?\r".encode())
    assert b"its own output without end" in seat.until(b"[code 1]\r\n")
    seat.seen = b""
    seat.type(f"{ours} 'shell:*'\r".encode())
    command = ["sh", "-c", "while sleep 0.1; do echo elsewhere; done"]
    made = agentcmd("call", "shell.create", json.dumps({"command": command}))
    other = json.loads(made.stdout)["terminalId"]
    for _ in range(2):
        seat.until(f" shell:terminal:{other} #".encode())
        seat.until(b"elsewhere")
        assert f" shell:terminal:{id_} #".encode() not in seat.seen
        seat.seen = b""
    agentcmd("shell", "close", other)
    seat.type(b"\x1d")
    assert seat.end() == 0
