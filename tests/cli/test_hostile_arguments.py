"""Arguments that no program could take are refused with a sentence, and never with a traceback."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from daemon.cli.main import main

DEEP = "[" * 20_000
CLOSED = DEEP + "]" * 20_000
OBJECTS = '{"a":' * 20_000 + "1" + "}" * 20_000


@pytest.mark.parametrize(
    "args",
    [
        ("token", "--ttl", "999999999d"),
        ("token", "--ttl", "9" * 400 + "d"),
        ("logs", "--since", "999999999d"),
        ("logs", "--since", "9" * 400 + "s"),
        ("logs", "--since", "0001-01-01T00:00:00+23:59"),
        ("call", "session.list", DEEP),
        ("call", "session.list", CLOSED),
        ("call", "session.list", OBJECTS),
        ("workflow", "send", "x", "e", CLOSED),
        ("logs", "-n", "9" * 30),
        ("tail", "session:x", "--since", "9" * 5000),
        ("serve", "--host", "a" * 100 + ".x"),
        ("serve", "--host", "\udcff"),
        ("serve", "--uds", "/tmp/agentcmd-\udcff.sock"),
        ("serve", "--state-dir", "a\udcff"),
        ("run", "--state-dir", "a\udcff", "--", "true"),
        ("token", "--state-dir", "a\udcff"),
    ],
)
def test_it_is_a_sentence(agentcmd, args):
    done = agentcmd(*args)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"agentcmd: ")
    assert len(done.stderr) < 1000


def test_what_nobody_has_thought_of_is_a_sentence_that_says_where(environ, capsys):
    with mock.patch.dict(os.environ, environ, clear=True):
        with mock.patch("daemon.cli.tokens.parse_ttl", side_effect=ValueError("odd")):
            assert main(["token"]) == 1
        out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentcmd: a fault of agentcmd's own: ValueError at mock.py:")
    assert err.count("\n") == 1


@pytest.mark.parametrize("args", [("ps",), ("logs", "-n"), (), ("workflow",), ("call", "x", "{}")])
def test_what_is_no_argument_of_ours_does_nothing_to_the_terminal(args, capfdbinary):
    with pytest.raises(SystemExit) as ended:
        main([*args, "x\x1b]52;c;aGk=\x07\u202e\nfake: ok"])
    assert ended.value.code == 2
    said = capfdbinary.readouterr().err
    assert rb"x\x1b]52;c;aGk=\x07\u202e\nfake" in said
    assert said.count(b"\n") == 1
    assert [each for each in (b"\x1b", b"\x07", "\u202e".encode()) if each in said] == []
