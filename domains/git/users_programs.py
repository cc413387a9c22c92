"""Programs of the user that git runs for us: each in the environment of the user's own git.

What a git of ours has in its environment would change what theirs does, where a filter or a helper
runs git itself. So what their configuration names is replaced, for one git of ours, by the same
behind a line of shell that takes ours back. The values are passed in the environment, which others
cannot read: a helper may hold a password.

Not replaced is what no configuration names: `git-remote-NAME` for an address NAME::, the steps of
`rebase --exec`, and what a submodule's own configuration names. What only looks runs filters with
our options as well, because reading all configuration would double the price of each look; of
those none changes how git finds a repository, its files or its objects.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import NamedTuple

from daemon.core.environment import child_environment
from domains.git.hooks import restoring, written

FOLDER = "programs"
"""Folder of the state dir in which there is what stands before the user's programs."""

KEYS_READ = (
    *("config", "--null", "--get-regexp"),
    (
        r"^(core\.(sshcommand|askpass)|filter\..*\.(clean|smudge|process)|merge\..*\.driver"
        r"|credential\.(.*\.)?helper|gpg\.(.*\.)?program)$"
    ),
)
"""How the user's programs are read: all at once."""

Entry = tuple[str, str]


def configured(listing: bytes) -> list[Entry]:
    """Return the keys and values that `KEYS_READ` lists, in their order."""
    entries = (os.fsdecode(entry).partition("\n") for entry in listing.split(b"\0") if entry)
    return [(name, value) for name, _, value in entries]


class Restored(NamedTuple):
    """The shell's words that take our environment back, and variables that have them said."""

    words: str = ""
    variables: Mapping[str, str] = MappingProxyType({})


def restored(entries: Iterable[Entry], state_dir: Path, environ: Mapping[str, str]) -> Restored:
    """Have git run these programs in the user's own environment."""
    lines = restoring(child_environment(environ))
    words = f". {shlex.quote(_kept(state_dir, 'own', [*lines, '']))}; "
    if "%" in words:
        return Restored()  # git replaces what begins so in a filter
    pairs = list(_replaced(entries, words, lines, state_dir))
    found = {"GIT_CONFIG_COUNT": str(len(pairs))} if pairs else {}
    for number, (key, value) in enumerate(pairs):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return Restored(words, found)


def ssh_program(command: str, state_dir: Path, environ: Mapping[str, str]) -> str:
    """Return a command that runs this ssh command; git tells kinds of ssh apart by their name."""
    try:
        name = PurePath(shlex.split(command)[0]).name
    except (IndexError, ValueError):
        return command
    lines = [*restoring(child_environment(environ)), f'{command} "$@"', ""]
    return shlex.quote(_kept(state_dir, name or "ssh", lines))


def _replaced(
    entries: Iterable[Entry], words: str, lines: list[str], state_dir: Path
) -> Iterator[Entry]:
    helps = False
    for key, value in entries:
        section = key.partition(".")[0]
        if section in ("filter", "merge"):
            yield key, value and words + value
        elif section == "credential":
            if not helps:
                yield "credential.helper", ""  # all of before are forgotten, then named again
                helps = True
            yield key, value and f"!{words}{_helper(value)}"
        elif section == "gpg" and value:
            path = os.path.expanduser(value)  # noqa: PTH111  # as git does
            yield key, _kept(state_dir, "gpg", [*lines, f'exec {shlex.quote(path)} "$@"', ""])


def _helper(value: str) -> str:
    """Return the command that git makes of the name of a credential helper."""
    if value.startswith("!"):
        return value[1:]
    return value if value.startswith("/") else f"git credential-{value}"


def _kept(state_dir: Path, name: str, lines: list[str]) -> str:
    """Write a script of this name, which others cannot read, and return its path."""
    script = os.fsencode("\n".join(lines))
    place = state_dir / FOLDER / hashlib.sha256(script).hexdigest()[:24]
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    written(place / name, script)
    return str(place / name)
