"""Settings from every source, and refusals that name the place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from daemon.reference import default_toml
from daemon.settings import Settings, SettingsError, default_state_dir, load

ROOT = Path(__file__).parent.parent


def environ_in(folder, **more):
    return {"XDG_CONFIG_HOME": str(folder), **more}


def test_later_sources_win(tmp_path):
    (tmp_path / "agentcmd").mkdir()
    (tmp_path / "agentcmd" / "agentcmd.toml").write_text("[server]\nport = 1\nhost = '127.0.0.2'\n")
    (tmp_path / "own.toml").write_text("[server]\nport = 2\n[log]\nlevel = 'error'\n")
    environ = environ_in(tmp_path, AGENTCMD_SERVER__PORT="3", AGENTCMD_WEB__HEARTBEAT="1.5")
    found = load(
        environ=environ, config=tmp_path / "own.toml", flags={"server": {"port": 4, "uds": None}}
    )
    assert (found.server.port, found.server.host) == (4, "127.0.0.2")
    assert (found.log.level, found.web.heartbeat, found.server.uds) == ("error", 1.5, "")


def test_agents_and_lists_come_from_the_environment(tmp_path):
    found = load(
        environ=environ_in(
            tmp_path,
            AGENTCMD_AGENTS__CLAUDE__PATH="/opt/claude",
            AGENTCMD_AGENTS__CLAUDE__ENV__API_KEY="k",
            AGENTCMD_SERVER__ORIGINS="https://a.example, https://b.example",
            AGENTCMD_URL="http://elsewhere",
        )
    )
    assert found.agents["claude"].path == "/opt/claude"
    assert found.agents["claude"].env == {"API_KEY": "k"}
    assert found.server.origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AGENTCMD_SERVER__PROT", "1", "port"),
        ("AGENTCMD_SERVER__PORT", "x", "server.port"),
        ("AGENTCMD_SERVER__PORT", "70000", "65535"),
        ("AGENTCMD_LOG__LEVEL", "loud", "log.level"),
        ("AGENTCMD_NOWHERE__X", "1", "server"),
        ("AGENTCMD_PORT", "1", "SECTION__KEY"),
        ("AGENTCMD_WEB__MAX_CONNECTIONS", "0", ">= 1"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_allowed(tmp_path, name, value, told):
    with pytest.raises(SettingsError, match=name) as caught:
        load(environ=environ_in(tmp_path, **{name: value}))
    assert told in caught.value.message


def test_default_toml_is_the_defaults(tmp_path):
    text = (ROOT / "config" / "default.toml").read_text()
    assert text == default_toml()
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line or "[" in line]
    settings = [
        line for line in lines if line.startswith("[") or line.split(" = ")[0].isidentifier()
    ]
    uncommented = tmp_path / "all.toml"
    uncommented.write_text("\n".join(settings))
    assert "port" in tomllib.loads(uncommented.read_text())["server"]
    found = load(environ=environ_in(tmp_path), config=uncommented)
    assert found.server == Settings().server
    assert found.journal == Settings().journal


def test_the_state_dir_is_the_units_the_users_or_the_default():
    assert default_state_dir({"STATE_DIRECTORY": "/var/lib/a:/x"}) == "/var/lib/a"
    assert default_state_dir({"XDG_STATE_HOME": "/s"}) == "/s/agentcmd"
    assert default_state_dir({}) == "~/.local/state/agentcmd"
