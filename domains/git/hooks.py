"""Hooks of a trusted repository: run with the environment that the user's own git would give them.

What we run git with, options and variables, would reach them too: `git -c` is a variable for every
program below. So git is pointed at a folder of ours, in which each hook is a few lines of shell
that take ours back and go on to the hook itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.core.environment import child_environment

FOLDER = "hooks"
"""Folder of the state dir in which there is one folder for each folder of hooks."""

OURS = (
    *("GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_SSH_COMMAND", "GIT_SEQUENCE_EDITOR"),
    *("GIT_CEILING_DIRECTORIES", "GIT_OPTIONAL_LOCKS", "GIT_LITERAL_PATHSPECS", "LC_ALL"),
)
"""What a git of ours has in its environment, and the user's own has not, or otherwise."""

EDITOR = "true"
"""The editor that changes nothing; git itself gives most hooks another one."""


def wrapped(hooks: str, state_dir: Path, environ: Mapping[str, str]) -> str | None:
    """Write a folder of hooks that go on to these, and return it; None where there are none."""
    scripts = {name: _script(path, environ) for name, path in _hooks(hooks)}
    if not scripts:
        return None
    place = state_dir / FOLDER / hashlib.sha256(os.fsencode(hooks)).hexdigest()[:24]
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, script in scripts.items():
        target = place / name
        with contextlib.suppress(OSError):
            if target.read_bytes() == script:
                continue
        beside = place / f".{name}.{os.getpid()}"
        beside.write_bytes(script)
        beside.chmod(0o700)
        beside.replace(target)
    for entry in place.iterdir():
        if entry.name not in scripts and not entry.name.startswith("."):
            entry.unlink(missing_ok=True)
    return str(place)


def _hooks(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the hooks that git would run there: `(name, path)`."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            runs = entry.is_file() and os.access(entry.path, os.X_OK)
            if runs and not entry.name.endswith(".sample"):
                yield entry.name, entry.path


def _script(path: str, environ: Mapping[str, str]) -> bytes:
    own = child_environment(environ)
    lines = ["#!/bin/sh", f"unset {' '.join(OURS)}"]
    lines += [f'[ "$GIT_EDITOR" != {EDITOR} ] || unset GIT_EDITOR']
    if "GIT_EDITOR" in own:
        lines += [f'[ "$GIT_EDITOR" ] || export GIT_EDITOR={shlex.quote(own["GIT_EDITOR"])}']
    lines += [f"export {name}={shlex.quote(own[name])}" for name in OURS if name in own]
    lines += [f'exec {shlex.quote(path)} "$@"', ""]
    return os.fsencode("\n".join(lines))
