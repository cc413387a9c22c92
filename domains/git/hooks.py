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
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.core.environment import child_environment

MARK = "agentcmd"
"""First word of what marks an operation in reflogs; its id is the second one."""

FOLDER = "hooks"
"""Folder of the state dir in which there is one folder for each folder of hooks."""

OURS = (
    *("GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_SSH_COMMAND", "GIT_SEQUENCE_EDITOR"),
    "GIT_ASKPASS",
    *("GIT_CEILING_DIRECTORIES", "GIT_OPTIONAL_LOCKS", "GIT_LITERAL_PATHSPECS", "LC_ALL"),
)
"""What a git of ours has in its environment, and the user's own has not, or otherwise."""

MARKED = {
    f'"{MARK} "*': ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
    f'*"({MARK} "*")"': ("GIT_REFLOG_ACTION",),
}
"""Patterns of values that mark an operation in reflogs, and the variables that are then ours."""

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
        written(place / name, script)
    for entry in place.iterdir():
        if entry.name not in scripts and not entry.name.startswith("."):
            entry.unlink(missing_ok=True)
    return str(place)


def written(target: Path, script: bytes) -> None:
    """Write a program, whole or not at all, unless it is there already."""
    with contextlib.suppress(OSError):
        if target.read_bytes() == script:
            return
    beside = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    beside.write_bytes(script)
    beside.chmod(0o700)
    beside.replace(target)


def restoring(own: Mapping[str, str]) -> list[str]:
    """Return the first lines of a script that takes our variables back; `own` is the user's."""
    lines = ["#!/bin/sh", f"unset {' '.join(OURS)}"]
    lines += [f'[ "$GIT_EDITOR" != {EDITOR} ] || unset GIT_EDITOR', *_unmarked(own)]
    if "GIT_EDITOR" in own:
        lines += [f'[ "$GIT_EDITOR" ] || export GIT_EDITOR={shlex.quote(own["GIT_EDITOR"])}']
    return lines + [f"export {name}={shlex.quote(own[name])}" for name in OURS if name in own]


def _unmarked(own: Mapping[str, str]) -> Iterator[str]:
    """Yield lines that take back the marks of an operation, not an author that a client gave."""
    for pattern, names in MARKED.items():
        back = [f"unset {' '.join(names)}"]
        back += [f"export {name}={shlex.quote(own[name])}" for name in names if name in own]
        yield f'case "${names[0]}" in {pattern}) {"; ".join(back)} ;; esac'


def _hooks(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the hooks that git would run there: `(name, path)`."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            runs = entry.is_file() and os.access(entry.path, os.X_OK)
            if runs and not entry.name.endswith(".sample"):
                yield entry.name, entry.path


def _script(path: str, environ: Mapping[str, str]) -> bytes:
    lines = restoring(child_environment(environ))
    lines += [f'exec {shlex.quote(path)} "$@"', ""]
    return os.fsencode("\n".join(lines))
