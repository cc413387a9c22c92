"""Arguments that no program could take are refused with a sentence, and never with a traceback."""

from __future__ import annotations

import pytest

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
    ],
)
def test_it_is_a_sentence(agentcmd, args):
    done = agentcmd(*args)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"agentcmd: ")
    assert len(done.stderr) < 1000
