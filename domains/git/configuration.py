"""What a repository's own configuration would have git run: nothing, unless it is trusted.

A clone brings no configuration along, but a folder from somewhere may. Hooks and the fsmonitor are
switched off for every command in a project that is not trusted; with what cannot be switched off
without changing what git does, nothing is run at all.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from daemon.core.errors import Conflict
from domains.git.repository import Repository, Stamp, stamp

SWITCHED_OFF = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.pager=cat"),
    *("-c", "commit.gpgSign=false"),
    *("-c", "tag.gpgSign=false"),
    *("-c", "push.gpgSign=false"),
)
"""Options for a project that is not trusted."""

_RUNS = re.compile(
    r"""
      core\.(askpass|gitproxy|sshcommand|worktree|alternaterefscommand)
    | core\.(attributesfile|excludesfile)
    | credential\..*
    | filter\..*\.(clean|smudge|process)
    | merge\..*\.driver
    | diff\.external | diff\..*\.(textconv|command)
    | remote\..*\.(uploadpack|receivepack|vcs|proxy)
    | http\..*proxy | http\.(.*\.)?(cookiefile|sslcert|sslkey|sslcainfo|sslcapath|curloptresolve)
    | (user|gpg(\..*)?)\.(program|defaultkeycommand|signingkey|allowedsignersfile)
    | protocol\..*allow
    | include\.path | includeif\..*
    | submodule\..*\.update
    | trailer\..*\.(cmd|command)
    | url\..*
    | uploadpack\.packobjectshook | receive\..* | sendemail\..* | imap\..*
    | (guitool|difftool|mergetool|browser|man|pager|alias|instaweb)\..*\.cmd
    """,
    re.VERBOSE,
)
"""Keys (git-config(1)) whose value is run, says what is run, or names a file outside to read."""

Listed = Callable[[str], Awaitable[bytes]]
"""Gives `git config --list --null` of one file."""


class Configurations:
    """Knows what repositories' own configurations would run, as long as the files stay the same."""

    def __init__(self, listed: Listed) -> None:
        """Read them with git itself, so that nobody reads them otherwise than it does."""
        self._listed = listed
        self._known: dict[str, tuple[Stamp | None, tuple[str, ...]]] = {}

    async def require_harmless(self, repository: Repository) -> None:
        """Raise Conflict, with what stands in the way, for what would run something."""
        found = {
            key for path in _files(repository) for key in await self._running(path, repository)
        }
        if found:
            named = ", ".join(sorted(found)[:5])
            raise Conflict(
                f"this repository's own configuration has git run or read something: {named}; if "
                "you know what it is, trust the project: 'agentcmd project trust ID'",
                keys=sorted(found),
            )

    async def _running(self, path: str, repository: Repository) -> tuple[str, ...]:
        now = await asyncio.to_thread(stamp, path)
        if now is None:
            return ()
        known = self._known.get(path)
        if known is None or known[0] != now:
            if len(self._known) > 1000:
                self._known.clear()
            known = now, tuple(running(await self._listed(path), repository))
            self._known[path] = known
        return known[1]


def _files(repository: Repository) -> Iterable[str]:
    yield str(Path(repository.common_dir) / "config")
    yield str(Path(repository.git_dir) / "config.worktree")
    if repository.git_dir != repository.common_dir:
        yield str(Path(repository.common_dir) / "config.worktree")


def running(listing: bytes, repository: Repository) -> Iterable[str]:
    """Yield the keys that have something run, of what `git config --list --null` says."""
    for entry in listing.split(b"\0"):
        key, _, value = entry.decode(errors="replace").partition("\n")
        key = key.lower()
        if not _RUNS.fullmatch(key):
            continue
        if key.startswith("submodule.") and re.fullmatch(r"checkout|rebase|merge|none", value):
            continue
        if key == "core.worktree":  # as in every submodule
            tree = Path(repository.git_dir) / value
            if os.path.realpath(tree) == repository.root:
                continue
        yield key
