"""What of the daemon's environment a child gets."""

from __future__ import annotations

from daemon.core.environment import child_environment

OURS = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "HTTP_PROXY": "http://proxy",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_DIR": "/somewhere/.git",
    "AGENTCMD_TOKEN": "secret",
    "CREDENTIALS_DIRECTORY": "/run/credentials",
    "ANTHROPIC_API_KEY": "key",
}


def test_a_child_gets_what_is_listed_and_nothing_else():
    assert child_environment(OURS) == {
        name: OURS[name] for name in ("PATH", "LC_ALL", "HTTP_PROXY", "GIT_AUTHOR_NAME")
    }


def test_an_agents_own_prefixes_pass_for_it():
    assert child_environment(OURS, prefixes=["ANTHROPIC_"])["ANTHROPIC_API_KEY"] == "key"


def test_what_is_configured_and_what_is_given_win_in_this_order():
    got = child_environment(
        OURS, configured={"PATH": "/usr/bin", "A": "1"}, given={"A": "2", "GIT_DIR": "/mine"}
    )
    assert (got["PATH"], got["A"], got["GIT_DIR"]) == ("/usr/bin", "2", "/mine")
