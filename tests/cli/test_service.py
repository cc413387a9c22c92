"""agentcmd service: units that fit this installation, never over somebody's changes."""

from __future__ import annotations

import argparse
import itertools
import os
import pwd
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from service_manager import ROOT

from daemon.cli import service, units
from daemon.cli.main import main
from daemon.cli.units import SERVICE, SOCKET, File, Scope
from daemon.core.errors import BadRequest, NotFound
from daemon.settings import ServerSection

TEMPLATES = ROOT / "systemd"
UNITS = ("agentcmd.service", "agentcmd.socket", "agentcmd.user.service")

SYSTEMCTL = """#!/bin/sh
echo "${0##*/} $*" >> "$FAKE/asked"
[ -e "$FAKE/answers" ] || { echo "Failed to connect to bus" >&2; exit 1; }
case "$*" in
*--property=Version*) echo 252 ;;
*is-active*) cat "$FAKE/active" 2>/dev/null || { echo inactive; exit 3; } ;;
*"show agentcmd.service"*)
    [ ! -e "$FAKE/stopped" ] || {
        printf 'UnitFileState=enabled\\nActiveState=inactive\\nSubState=dead\\n'
        printf 'MainPID=0\\nStatusText=draining\\n'
        exit 0
    }
    printf 'UnitFileState=enabled\\nActiveState=active\\nSubState=running\\n'
    printf 'MainPID=42\\nStatusText=http://127.0.0.1:4100: 2 running, 0 queued\\n' ;;
*"show agentcmd.socket"*) printf 'UnitFileState=enabled\\nActiveState=active\\n' ;;
*enable*) [ ! -e "$FAKE/refuses" ] || { printf 'It cannot be.\\nSee there.\\n' >&2; exit 1; } ;;
esac
"""
LOGINCTL = '#!/bin/sh\ncat "$FAKE/linger"\n'
SYSUSERS = '#!/bin/sh\necho "${0##*/} $*" >> "$FAKE/asked"\n'

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


class Fake:
    """systemctl and its like, which do nothing and remember what they were asked."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name, script in (
            ("systemctl", SYSTEMCTL),
            ("loginctl", LOGINCTL),
            ("systemd-sysusers", SYSUSERS),
        ):
            self.program(name, script)
        self.say("answers")
        self.say("linger", "no\n")

    def program(self, name, script="#!/bin/sh\n"):
        path = self.bin / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    def say(self, name, text=""):
        (self.folder / name).write_text(text)

    @property
    def env(self):
        return {"FAKE": str(self.folder), "PATH": f"{self.bin}:/usr/bin:/bin"}

    def asked(self):
        """Give what was to be done; questions apart."""
        path = self.folder / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if " show " not in line and "is-active" not in line]


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path / "fake")


@pytest.fixture
def service_of(agentcmd, fake):
    """Run `agentcmd service VERB --user ...` with the fake manager."""

    def run(*args, env=None):
        return agentcmd("service", args[0], "--user", *args[1:], env={**fake.env, **(env or {})})

    return run


@pytest.fixture
def folder_of_units(tmp_path):
    return tmp_path / "config" / "systemd" / "user"


def one_error(done, *parts):
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1, done.stderr
    for part in parts:
        assert part.encode() in done.stderr
    return True


# Install


def test_install_writes_enables_and_starts_what_fits_this_installation(
    service_of, fake, folder_of_units, tmp_path
):
    claude = fake.program("claude")
    done = service_of("install")
    assert (done.returncode, done.stderr) == (0, b"")
    text = (folder_of_units / SERVICE).read_text()
    assert f"ExecStart={' '.join(units.program())} serve\n" in text
    assert f"Environment=PATH={fake.bin}:/usr/bin:/bin\n" in text
    assert f"Environment=AGENTCMD_AGENTS__CLAUDE__PATH={claude}\n" in text
    assert f"Environment=XDG_STATE_HOME={tmp_path / 'state'}\n" in text
    assert "AGENTCMD_SERVER" not in text  # of the shell, not of the service
    assert "ListenStream=127.0.0.1:4100\n" in (folder_of_units / SOCKET).read_text()
    assert fake.asked() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now agentcmd.socket agentcmd.service",
    ]
    assert b"loginctl enable-linger" in done.stdout


def test_a_second_install_changes_nothing_and_leaves_what_runs(service_of, fake, folder_of_units):
    service_of("install")
    before = (folder_of_units / SERVICE).read_bytes()
    fake.asked()
    fake.say("active", "active\n")
    fake.say("linger", "yes\n")
    done = service_of("install")
    assert (done.returncode, done.stdout.count(b"unchanged ")) == (0, 2)
    assert b"it runs already" in done.stdout
    assert b"linger" not in done.stdout
    assert (folder_of_units / SERVICE).read_bytes() == before
    assert fake.asked() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable agentcmd.socket agentcmd.service",
    ]


def test_a_new_path_is_written_over_our_own_unit_and_the_restart_is_left_to_the_user(
    service_of, fake, folder_of_units
):
    service_of("install")
    fake.say("active", "active\n")
    done = service_of("install", env={"PATH": f"{fake.bin}:/opt/more:/usr/bin:/bin"})
    assert done.returncode == 0
    assert b"systemctl --user stop agentcmd.service && systemctl --user start" in done.stdout
    assert "/opt/more" in (folder_of_units / SERVICE).read_text()


def test_a_changed_unit_is_shown_and_kept_until_force(service_of, fake, folder_of_units):
    service_of("install")
    fake.asked()
    unit = folder_of_units / SERVICE
    changed = unit.read_text() + "Nice=5\n"
    unit.write_text(changed)
    done = service_of("install")
    assert one_error(done, str(unit), "--force", "systemctl --user edit agentcmd")
    assert b"-Nice=5" in done.stdout
    assert (unit.read_text(), fake.asked()) == (changed, [])
    assert service_of("install", "--force").returncode == 0
    assert "Nice=5" not in unit.read_text()


def test_a_masked_unit_is_somebodys_decision(service_of, folder_of_units):
    folder_of_units.mkdir(parents=True)
    (folder_of_units / SERVICE).symlink_to("/dev/null")
    done = service_of("install")
    assert one_error(done, "--force")
    assert b"is a link to /dev/null" in done.stdout
    assert service_of("install", "--force").returncode == 0
    assert not (folder_of_units / SERVICE).is_symlink()


def test_without_a_manager_the_two_commands_are_told(service_of, fake, folder_of_units):
    (fake.folder / "answers").unlink()
    done = service_of("install")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (folder_of_units / SERVICE).exists()
    assert fake.asked() == []
    assert b"\n  systemctl --user daemon-reload\n" in done.stdout
    assert b"\n  systemctl --user enable --now agentcmd.socket agentcmd.service\n" in done.stdout


def test_a_dry_run_shows_all_and_does_nothing(service_of, fake, folder_of_units):
    done = service_of("install", "--dry-run")
    assert done.returncode == 0
    assert f"# {folder_of_units / SERVICE} (absent)".encode() in done.stdout
    assert b"\nExecStart=" in done.stdout
    assert b"\nsystemctl --user daemon-reload\n" in done.stdout
    assert not folder_of_units.exists()
    service_of("install")
    fake.asked()
    done = service_of("uninstall", "--dry-run")
    assert f"rm {folder_of_units / SERVICE}".encode() in done.stdout
    assert (folder_of_units / SERVICE).exists()
    assert fake.asked() == []


def test_what_the_manager_refuses_is_one_line(service_of, fake):
    fake.say("refuses")
    assert one_error(service_of("install"), "enable --now", "It cannot be.")


def test_a_daemon_that_runs_already_is_not_run_into(service_of, fake, begin, tmp_path):
    state = tmp_path / "state" / "agentcmd"
    running = begin("serve", "--port", "0", "--state-dir", str(state), stderr=subprocess.DEVNULL)
    assert b"listening" in running.stdout.readline()
    done = service_of("install")
    assert f"a daemon runs already (pid {running.pid}): agentcmd stop &&".encode() in done.stdout
    assert fake.asked()[-1] == "systemctl --user enable agentcmd.socket agentcmd.service"


def test_settings_in_files_decide_where_it_listens_and_which_agent_it_is(
    service_of, fake, folder_of_units, tmp_path
):
    fake.program("claude")
    config = tmp_path / "config" / "agentcmd" / "agentcmd.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[server]\nport = 4711\n[agents.claude]\npath = '/opt/claude'\n")
    assert service_of("install").returncode == 0
    assert "ListenStream=127.0.0.1:4711\n" in (folder_of_units / SOCKET).read_text()
    assert "AGENTS__CLAUDE" not in (folder_of_units / SERVICE).read_text()


def test_options_of_the_install_are_those_of_the_service(service_of, folder_of_units, tmp_path):
    config = tmp_path / "own $dir.toml"
    config.write_text("[server]\nport = 0\n")
    state = tmp_path / "own 100%"
    done = service_of("install", "--state-dir", str(state), "--config", str(config))
    assert done.returncode == 0
    words = f'"{str(state).replace("%", "%%")}" --config "{str(config).replace("$", "$$")}"'
    assert f" serve --state-dir {words}\n" in (folder_of_units / SERVICE).read_text()
    assert not (folder_of_units / SOCKET).exists()  # only the daemon knows its port


def test_leaving_loopback_is_not_done_by_an_install(service_of, folder_of_units, tmp_path):
    config = tmp_path / "open.toml"
    config.write_text("[server]\nhost = '0.0.0.0'\n")
    done = service_of("install", "--config", str(config))
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"ListenStream=0.0.0.0:4100" in done.stderr
    assert not folder_of_units.exists()


# Uninstall and status


def test_uninstall_removes_what_install_has_written(service_of, fake, folder_of_units, tmp_path):
    service_of("install")
    fake.asked()
    wants = folder_of_units / "default.target.wants"
    wants.mkdir()
    (wants / SERVICE).symlink_to(folder_of_units / SERVICE)
    own = folder_of_units / f"{SERVICE}.d"
    own.mkdir()
    done = service_of("uninstall")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path for path in folder_of_units.rglob("*") if not path.is_dir()] == []
    assert fake.asked() == [
        "systemctl --user disable --now agentcmd.socket agentcmd.service",
        "systemctl --user daemon-reload",
    ]
    assert f"kept {own}, {tmp_path / 'state' / 'agentcmd'}\n".encode() in done.stdout
    assert one_error(service_of("uninstall"), "no unit of agentcmd is installed")


def test_uninstall_keeps_a_changed_unit_until_force(service_of, fake, folder_of_units):
    service_of("install")
    fake.asked()
    (folder_of_units / SERVICE).write_text("[Service]\nExecStart=/bin/true\n")
    assert one_error(service_of("uninstall"), str(folder_of_units / SERVICE), "--force")
    assert fake.asked() == []
    assert (folder_of_units / SOCKET).exists()
    assert service_of("uninstall", "--force").returncode == 0
    assert not (folder_of_units / SERVICE).exists()


def test_status_tells_in_plain_lines(service_of, fake, folder_of_units, begin, tmp_path):
    done = service_of("status")
    assert done.returncode == 3
    assert f"not there {folder_of_units / SERVICE}\n".encode() in done.stdout
    assert b"daemon    none runs with" in done.stdout
    assert b"linger" not in done.stdout
    service_of("install")
    state = tmp_path / "state" / "agentcmd"
    running = begin("serve", "--port", "0", "--state-dir", str(state), stderr=subprocess.DEVNULL)
    url = running.stdout.readline().decode().split()[-1]
    done = service_of("status")
    told = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"installed {folder_of_units / SERVICE}, as installed\n" in told
    assert (
        "enabled   agentcmd.service, active (running), pid 42, "
        "http://127.0.0.1:4100: 2 running, 0 queued\n" in told
    )
    assert f"daemon    ok at {url}, pid {running.pid}\n" in told
    running.kill()
    running.wait()
    fake.say("stopped")
    told = service_of("status").stdout.decode()
    assert "enabled   agentcmd.service, inactive (dead)\n" in told
    (folder_of_units / SERVICE).write_text("[Service]\n")
    (fake.folder / "answers").unlink()
    told = service_of("status").stdout.decode()
    assert "changed or written by somebody" in told
    assert "no user manager answers here" in told


# The machine's


@pytest.fixture
def machine(fake, tmp_path, monkeypatch):
    """Be root of a machine below a folder."""
    scope = Scope.of_system(tmp_path / "root")
    monkeypatch.setattr(Scope, "of_system", classmethod(lambda _: scope))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(units, "program", lambda: ["/usr/bin/env", "agentcmd"])
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)

    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", nobody)
    return scope


def test_the_machines_service_has_an_account_of_its_own(machine, fake, capsys, tmp_path):
    fake.program("claude")
    assert main(["service", "install", "--system"]) == 0
    out, err = capsys.readouterr()
    assert "linger" not in out
    account = tmp_path / "root/etc/sysusers.d/agentcmd.conf"
    assert fake.asked() == [
        f"systemd-sysusers {account}",
        "systemctl daemon-reload",
        "systemctl enable --now agentcmd.socket agentcmd.service",
    ]
    text = (machine.folder / SERVICE).read_text()
    assert "User=agentcmd\n" in text
    assert "AGENTS__CLAUDE" not in text
    assert "is closed to user agentcmd" in err  # a test's folder is its user's alone
    assert main(["service", "uninstall", "--system"]) == 0
    assert [path for path in (tmp_path / "root").rglob("*") if not path.is_dir()] == []
    assert "user agentcmd" in capsys.readouterr().out


def test_a_program_that_the_account_cannot_reach_is_told_before_anything_is_done(
    machine, fake, capsys, tmp_path, monkeypatch
):
    program = tmp_path / "closed" / "agentcmd"
    program.parent.mkdir(mode=0o700)
    program.touch(0o755)
    monkeypatch.setattr(units, "program", lambda: [str(program)])
    assert main(["service", "install", "--system"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"cannot run {program}" in err
    assert not machine.folder.exists()
    assert fake.asked() == []


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_the_machines_service_needs_root_and_says_so(verb, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["service", verb, "--system"]) == 1
    assert capsys.readouterr().err == (
        f"agentcmd: --system needs root: sudo agentcmd service {verb} --system\n"
    )


def test_unasked_it_is_ones_own_and_for_root_the_machines(monkeypatch):
    for euid, system, is_user in (
        (1000, None, True),
        (0, None, False),
        (0, False, True),
        (1000, True, False),
    ):
        monkeypatch.setattr(os, "geteuid", lambda euid=euid: euid)
        assert service._scope(argparse.Namespace(system=system)).user is is_user


# Templates


def analyze(*args, tmp_path):
    return subprocess.run(
        ["systemd-analyze", *args],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_analyze
@pytest.mark.parametrize("template", UNITS)
def test_each_template_is_verified(tmp_path, template):
    kind = ["--user"] if ".user." in template else []
    for name in ("agentcmd.service", "agentcmd.socket"):
        user = name.replace(".service", ".user.service") if kind else name
        shutil.copy(TEMPLATES / user, tmp_path / name)
    unit = tmp_path / template.replace(".user.", ".")
    done = analyze(*kind, "verify", str(unit), tmp_path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
def test_what_install_writes_is_verified(service_of, folder_of_units, tmp_path):
    service_of("install")
    for name in (SERVICE, SOCKET):
        done = analyze("--user", "verify", str(folder_of_units / name), tmp_path=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
@pytest.mark.parametrize("name", ["plain", "a b", "100%n", "a$b", "$PATH", "ünï"])
def test_a_path_is_read_as_it_is_whatever_is_in_it(tmp_path, name):
    program = tmp_path / name / "agentcmd"
    program.parent.mkdir()
    program.touch(0o755)
    template = (TEMPLATES / "agentcmd.user.service").read_text()
    text = units.service_text(template, [str(program), "serve"], {"PATH": str(program.parent)})
    (tmp_path / SERVICE).write_text(text)
    done = analyze("--user", "verify", str(tmp_path / SERVICE), tmp_path=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    program.unlink()
    done = analyze("--user", "verify", str(tmp_path / SERVICE), tmp_path=tmp_path)
    assert f"Command {program} is not executable" in done.stderr


@pytest.mark.parametrize("name", ['say "x"', "it's", "back\\slash"])
def test_a_path_that_systemd_does_not_take_is_refused(name):
    with pytest.raises(BadRequest, match="install agentcmd elsewhere"):
        units.service_text("ExecStart=x\n", [f"/{name}/agentcmd", "serve"], {})


def test_words_are_quoted_where_they_have_to_be():
    words = ["plain", "a b", 'say "x"', "100%", "back\\slash", ""]
    assert [units.quoted(word) for word in words] == [
        "plain",
        '"a b"',
        '"say \\"x\\""',
        "100%%",
        '"back\\\\slash"',
        '""',
    ]


@needs_analyze
def test_the_machines_service_is_no_more_exposed_than_the_readme_says(tmp_path):
    shutil.copy(TEMPLATES / SERVICE, tmp_path / SERVICE)
    readme = (TEMPLATES / "README.md").read_text()
    figure = re.search(r"exposure (\d+\.\d)", readme)
    threshold = str(round(float(figure[1]) * 10))
    done = analyze(
        "security",
        "--offline=true",
        f"--threshold={threshold}",
        str(tmp_path / SERVICE),
        tmp_path=tmp_path,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_every_directive_has_its_reason():
    plain = ("Description", "Documentation", "ExecStart", "WantedBy", "StartLimitBurst")
    for name in UNITS:
        lines = (TEMPLATES / name).read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            if re.match(r"\w+=", line) and not line.startswith(plain):
                assert before.startswith("# "), f"{name}: {line}"


def test_nothing_is_set_that_breaks_agents():
    breaking = (
        "MemoryDenyWriteExecute",
        "SystemCallFilter",
        "RestrictNamespaces",
        "RestrictSUIDSGID",
        "ProtectControlGroups",
        "ProcSubset",
        "RestrictAddressFamilies",
        "ProtectHome",
        "PrivateTmp",
        "DynamicUser",
    )
    for name in UNITS:
        set_ = re.findall(r"^(\w+)=", (TEMPLATES / name).read_text(), re.MULTILINE)
        assert not set(set_) & set(breaking)


def test_a_wheel_brings_every_file_of_the_folder():
    with (ROOT / "pyproject.toml").open("rb") as file:
        data = tomllib.load(file)["tool"]["setuptools"]["data-files"]
    files = {f"systemd/{path.name}" for path in TEMPLATES.iterdir()}
    assert set(data["share/agentcmd/systemd"]) == files


def test_templates_are_found_in_a_wheel_install_and_missed_aloud(tmp_path, monkeypatch):
    assert units.templates() == TEMPLATES
    monkeypatch.setattr(units, "ours", str(tmp_path / "lib" / "daemon" / "__init__.py"))
    monkeypatch.setattr(units.sysconfig, "get_path", lambda _: str(tmp_path / "prefix"))
    monkeypatch.setattr(units.sys, "prefix", str(tmp_path / "prefix"))
    with pytest.raises(NotFound, match="install agentcmd anew"):
        units.templates()
    share = tmp_path / "prefix/share/agentcmd/systemd"
    shutil.copytree(TEMPLATES, share)
    assert units.templates() == share


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ({}, "127.0.0.1:4100"),
        ({"host": "localhost", "port": 5000}, "127.0.0.1:5000"),
        ({"host": "::1"}, "[::1]:4100"),
        ({"port": 0}, ""),
        ({"uds": "/run/agentcmd/a.sock"}, "/run/agentcmd/a.sock"),
        ({"uds": "a.sock"}, ""),
    ],
)
def test_a_socket_listens_where_the_settings_say(server, address):
    assert units.socket_address(ServerSection(**server)) == address


def test_a_mark_tells_our_files_from_changed_ones(tmp_path):
    file = File(tmp_path / "x", "[Unit]\n")
    assert file.standing() == "absent"
    file.write()
    assert file.standing() == "current"
    assert File(tmp_path / "x", "[Service]\n").standing() == "outdated"
    Path(file.path).write_text(file.path.read_text() + "\n")
    assert file.standing() == "changed"
