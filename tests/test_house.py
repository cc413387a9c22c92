"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import get_type_hints

import pytest

import daemon
import domains
from daemon.app import build_registry
from daemon.core.errors import error_classes
from daemon.reference import first_line, written

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "daemon").rglob("*.py")) + sorted((ROOT / "domains").rglob("*.py"))
SOURCES_OF_ROOMS = [
    path
    for path in SOURCES
    if path.parent in (ROOT / "daemon/core", ROOT / "daemon/web") and path.stem != "__init__"
]
DOMAIN_FOLDERS = sorted({path.parent for path in (ROOT / "domains").glob("*/__init__.py")})


def test_our_daemon_package_is_the_installed_one():
    distribution = importlib.metadata.distribution("agentcmd")
    assert distribution.version == daemon.__version__
    names = importlib.metadata.packages_distributions()["daemon"]
    assert set(names) == {"agentcmd"}
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if direct.get("dir_info", {}).get("editable"):
        assert Path(daemon.__file__).is_relative_to(direct["url"].removeprefix("file://"))


KNOWN_FAULTS = {
    "aiohttp": ("3.14.3", "CVE-2026-69244"),
    "gitpython": ("3.1.62", "CVE-2026-78676"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "pyjwt": ("2.13", "CVE-2026-32597, CVE-2026-48526"),
    "pyyaml": ("6", "CVE-2020-14343"),
}
"""Our dependencies' first versions without a known fault, and the fault."""


def test_no_version_with_a_known_fault_satisfies_what_we_ask_for():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(re.fullmatch(r"([\w-]+)>=([\d.]+).*", each).groups() for each in asked)
    for name, (fixed, fault) in KNOWN_FAULTS.items():
        ours, theirs = ([int(part) for part in each.split(".")] for each in (floors[name], fixed))
        assert ours >= theirs, f"{name} {floors[name]} has {fault}; ask for {fixed}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_opens_with_a_sentence(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text
    assert text.split("\n\n")[0].replace("\n", " ").endswith((".", ":"))


def test_only_the_supervisor_starts_tasks():
    owners = {
        "daemon/core/supervisor.py",
        "daemon/client.py",
        "daemon/cli/run.py",
        "daemon/cli/job.py",
        "daemon/cli/channels.py",
        "daemon/cli/sessions.py",
        "daemon/cli/attached.py",
        "daemon/cli/git.py",
        "daemon/cli/watching.py",
    }
    for path in SOURCES:
        if str(path.relative_to(ROOT)) not in owners:
            assert not re.search(r"create_task\(|ensure_future\(", path.read_text()), path


def test_what_the_command_prints_goes_through_one_door():
    doors = {"printing.py", "tty.py"}
    for path in sorted((ROOT / "daemon/cli").glob("*.py")):
        if path.name in doors:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
            calls_print = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
            passed = isinstance(node, ast.Call) and any(
                ast.unparse(each) in {"sys.stdout", "sys.stderr"} for each in node.args
            )
            beside = re.fullmatch(
                r"sys\.(__)?std(out|err)(__)?\.(write|writelines|buffer|detach)|os\.writev?", text
            )
            if calls_print or passed or beside:
                pytest.fail(f"{path.name}:{node.lineno} prints beside daemon/cli/printing.py")


ELSEWHERE = {
    "daemon/web/answers.py": "tests/web/test_rest.py",
    "daemon/web/close.py": "tests/web/test_connection.py",
    "daemon/web/doors.py": "tests/web/test_rest.py",
    "daemon/web/errors.py": "tests/web/test_rest.py",
    "daemon/web/expiry.py": "tests/web/test_auth.py",
    "daemon/web/metrics.py": "tests/web/test_rest.py",
    "daemon/web/outlet.py": "tests/web/test_connection.py",
    "daemon/web/peer.py": "tests/web/test_gateway.py",
    "daemon/web/requests.py": "tests/web/test_gateway.py",
    "daemon/web/socketio_packets.py": "tests/web/test_socketio.py",
    "domains/system": "tests/domains/test_task.py",
}
"""What is tested by a file that does not bear its name; a domain has one file for its folder."""


def test_every_room_has_its_tests_at_the_mirrored_place():
    rooms = {path: f"tests/{path.parent.name}/test_{path.name}" for path in SOURCES_OF_ROOMS}
    rooms |= {path: f"tests/domains/test_{path.name}.py" for path in DOMAIN_FOLDERS}
    missing, stale = [], []
    for room, mirrored in rooms.items():
        name = str(room.relative_to(ROOT))
        found = (ROOT / mirrored).exists() or (ROOT / mirrored).with_suffix("").is_dir()
        if not found and not (ROOT / ELSEWHERE.get(name, "no")).exists():
            missing.append(f"{name}: {mirrored}")
        if found and name in ELSEWHERE:
            stale.append(name)
    assert missing == []
    assert stale == [], "no longer elsewhere"
    assert ELSEWHERE.keys() <= {str(room.relative_to(ROOT)) for room in rooms}


def test_every_test_of_core_is_of_a_room_that_exists():
    rooms = {path.stem for path in SOURCES_OF_ROOMS if path.parent.name == "core"}
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests/core").glob("test_*.py")}
    assert tested == rooms


def test_every_command_has_one_handler_and_it_gives_the_declared_answer():
    handlers = [
        (handled.__command__, get_type_hints(method)["return"])
        for info in pkgutil.walk_packages(domains.__path__, "domains.")
        for cls in vars(importlib.import_module(info.name)).values()
        if inspect.isclass(cls) and cls.__module__ == info.name
        for method in vars(cls).values()
        if (handled := getattr(method, "__handles__", None)) is not None
    ]
    assert sorted(told.name for told, _ in handlers) == sorted(build_registry().commands)
    assert [(told.name, gives) for told, gives in handlers if gives is not told.answer] == []


def test_every_event_and_command_has_its_published_sentence():
    registry = build_registry()
    for declared in (*registry.events.values(), *registry.commands.values()):
        assert first_line(declared).endswith((".", ":")), declared
    assert {name.split(".")[0] for name in registry.commands} == {
        "file",
        "git",
        "project",
        "session",
        "shell",
        "task",
        "system",
        "workflow",
    }


def test_the_error_codes_are_those_of_the_contract():
    codes = (
        "unauthorized forbidden not_found bad_message bad_request invalid_channel unknown_command "
        "conflict rate_limited too_large unavailable internal"
    )
    assert {cls.code for cls in error_classes()} == set(codes.split())
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert codes in readme


def test_what_the_code_writes_is_written():
    for path, text in written(ROOT).items():
        assert path.read_text() == text, f"run python -m daemon.reference for {path.name}"


def test_ci_runs_the_readmes_test_command():
    command = (
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest -q -n 2"
    )
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()


def test_functions_and_files_can_be_read():
    for path in SOURCES:
        if path.name == "spawner.py":
            continue  # a program of its own, in one file because it may import nothing of ours
        text = path.read_text()
        assert text.count("\n") <= 420, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length <= 75, f"{path}:{node.name}"


def test_no_module_is_called_what_says_nothing():
    for path in SOURCES:
        assert path.stem not in {"utils", "helpers", "manager", "base", "misc"}
        assert inspect.getmodulename(str(path))
