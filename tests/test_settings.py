"""Settings from every source, and refusals that name the place."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
            AGENTCMD_TERMINAL="01m8",
            AGENTCMD_DETACH_KEY="ctrl-a",
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
        ("AGENTCMD_WEB__HEARTBEAT", "nan", "web.heartbeat"),
        ("AGENTCMD_WEB__HEARTBEAT", "-1", ">= 0"),
        ("AGENTCMD_SERVER__PORT", "", "server.port"),
        ("AGENTCMD_SERVER__PORT", "1.5", "server.port"),
        ("AGENTCMD_LOG__LEVEL__X", "1", "log.level"),
        ("AGENTCMD_LOG", "1", "SECTION__KEY"),
        ("AGENTCMD_LOG__", "1", "known there: level"),
        ("AGENTCMD___LEVEL", "1", "known there: server"),
        ("AGENTCMD_AGENTS__CLAUDE__PTH", "1", "known there: path, max_running, env"),
        ("AGENTCMD_AGENTS__CLAUDE", "1", "Expected `object`"),
        ("AGENTCMD_AGENTS__CLAUDE__ENV", "1", "Expected `object`"),
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


def test_a_variable_of_an_agent_is_passed_on_as_it_is_written(tmp_path):
    environ = environ_in(
        tmp_path,
        AGENTCMD_AGENTS__CLAUDE__ENV__Mixed_Case="1",
        AGENTCMD_AGENTS__CLAUDE__ENV__WITH__TWO="2",
        AGENTCMD_AGENTS__CLAUDE__ENV____LEADING="3",
    )
    env = load(environ=environ).agents["claude"].env
    assert env == {"Mixed_Case": "1", "WITH__TWO": "2", "__LEADING": "3"}


def test_only_our_prefix_is_read(tmp_path):
    environ = environ_in(tmp_path, AGENTCMDX_Y="1", XAGENTCMD_Y__Z="1", AGENTCMD_TOKEN="t")
    assert load(environ=environ) == Settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nprot = 1", r"\[server\].*`prot`.*known there: host, port"),
        ("[server]\nport = 'x'", r"\[server.port\].*Expected `int`, got `str`"),
        ("[nowhere]", "`nowhere`.*known there: server, auth"),
        ("[agents.claude]\npth = 'x'", r"`pth`.*known there: path, max_running, env"),
        ("[task]\nmax_running = 0", r"\[task.max_running\].*>= 1"),
        ("[server", "is not TOML"),
        ("a = 1\na = 2", "is not TOML"),
        ("\xff", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_the_key_and_what_is_allowed(tmp_path, text, told):
    path = tmp_path / "own.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=told) as caught:
        load(environ=environ_in(tmp_path), config=path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_was_asked_for_must_be_there_and_the_usual_ones_need_not(tmp_path):
    load(environ=environ_in(tmp_path))
    (tmp_path / "file").touch()
    load(environ=environ_in(tmp_path / "file"))
    with pytest.raises(SettingsError, match=r"cannot read .*gone\.toml: No such file"):
        load(environ=environ_in(tmp_path), config=tmp_path / "gone.toml")


def test_a_usual_file_that_cannot_be_read_is_told_not_passed_over(tmp_path):
    (tmp_path / "agentcmd" / "agentcmd.toml").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"cannot read .*Is a directory"):
        load(environ=environ_in(tmp_path))
    with pytest.raises(SettingsError, match=r"cannot read .*name too long"):
        load(environ=environ_in(tmp_path / ("x" * 300)))


def every_setting():
    for section, kind in get_type_hints(Settings).items():
        if section != "agents":
            for key, hint in get_type_hints(kind).items():
                if get_origin(hint) is dict:
                    continue  # tables by name, which have a test of their own
                yield section, key, hint, getattr(getattr(Settings(), section), key)


def written(value):
    """Write a value as the environment does, and as TOML does."""
    if isinstance(value, tuple):
        return ",".join(value), json.dumps(value)
    return json.dumps(value) if isinstance(value, bool) else str(value), json.dumps(value)


@pytest.mark.parametrize(
    ("section", "key", "hint", "default"),
    list(every_setting()),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_setting_can_be_given_by_file_and_by_environment(
    tmp_path, section, key, hint, default
):
    another = {bool: not default, float: 7.5, str: "seven"}.get(hint)
    if hint is int:
        another = default + 1
    if another is None:
        choices = [choice for choice in get_args(hint) if choice not in (default, ..., str)]
        another = choices[0] if choices else ("seven", "eight")
    text, toml = written(another)
    path = tmp_path / "own.toml"
    path.write_text(f"[{section}]\n{key} = {toml}\n")
    variable = {f"AGENTCMD_{section.upper()}__{key.upper()}": text}
    for found in (
        load(environ=environ_in(tmp_path), config=path),
        load(environ=environ_in(tmp_path, **variable)),
    ):
        assert getattr(getattr(found, section), key) == another


def test_one_kind_of_task_may_have_limits_of_its_own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        "[task]\nrun_timeout = 5\nstop_grace = 2\n[task.kinds.session]\nrun_timeout = 0"
    )
    variable = {"AGENTCMD_TASK__KINDS__SESSION__MEMORY_BYTES": "4096"}
    task = load(environ=environ_in(tmp_path, **variable), config=path).task
    session, other = task.of("session"), task.of("other")
    assert (session.run_timeout, session.stop_grace, session.memory_bytes) == (0, 2, 4096)
    assert (other.run_timeout, other.stop_grace, other.memory_bytes) == (5, 2, 0)
    path.write_text("[task.kinds.session]\nrun_timeot = 1")
    with pytest.raises(SettingsError, match=r"run_timeot.*known there: queue_timeout"):
        load(environ=environ_in(tmp_path), config=path)


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "OFF "])
def test_a_variable_may_say_no_in_many_ways(tmp_path, text):
    assert load(environ=environ_in(tmp_path, AGENTCMD_WEB__SOCKETIO=text)).web.socketio is False


def test_a_variable_that_says_neither_yes_nor_no_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"AGENTCMD_WEB__SOCKETIO.*bool"):
        load(environ=environ_in(tmp_path, AGENTCMD_WEB__SOCKETIO="perhaps"))


numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False))


@given(value=st.one_of(numbers, st.text(alphabet="abc0129.-_e ", max_size=8)))
def test_whatever_a_variable_holds_is_a_setting_or_a_sentence(value):
    environ = {"XDG_CONFIG_HOME": "/nowhere", "AGENTCMD_TASK__STOP_GRACE": str(value)}
    try:
        found = load(environ=environ).task.stop_grace
    except SettingsError as error:
        told = error.message
        found = None
    if found is None:
        assert told.startswith("AGENTCMD_TASK__STOP_GRACE [task.stop_grace]: Expected `float`")
    else:
        assert found == float(value) >= 0


def test_a_later_source_overrides_key_by_key_and_adds_to_an_agents_variables(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[agents.a]\npath = '/one'\n[agents.a.env]\nX = '1'\nY = '1'\n")
    found = load(
        environ=environ_in(tmp_path, AGENTCMD_AGENTS__A__ENV__Y="2", AGENTCMD_AGENTS__B__PATH="/b"),
        config=path,
    )
    assert found.agents["a"].path == "/one"
    assert found.agents["a"].env == {"X": "1", "Y": "2"}
    assert found.agents["b"].path == "/b"


def test_the_state_dir_may_begin_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    found = load(environ={"XDG_CONFIG_HOME": "/nowhere", "AGENTCMD_SERVER__STATE_DIR": "~/state"})
    assert found.state_dir == Path("/home/somebody/state")
