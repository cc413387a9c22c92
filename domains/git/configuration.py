"""What a repository's own configuration would have git run: nothing, unless it is trusted.

A clone brings no configuration along, but a folder from somewhere may. Hooks, the fsmonitor and
signing are switched off for every command in a project that is not trusted; with what cannot be
switched off without changing what git does, nothing is run at all.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from daemon.core.errors import Conflict
from domains.git.failures import redacted
from domains.git.layout import WAITING, Layouts, nested
from domains.git.repository import (
    CONFIG_BYTES,
    Repository,
    Stamp,
    common_dir_of,
    git_dir_of,
    stamp,
)

SWITCHED_OFF = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.pager=cat"),
    *("-c", "commit.template="),  # it is compared with messages, and may block for ever
    *("-c", "commit.gpgSign=false"),
    *("-c", "tag.gpgSign=false"),
    *("-c", "push.gpgSign=false"),
    *("-c", "safe.bareRepository=explicit"),
)
"""Options for a project that is not trusted."""

TRUST = "if you know what it is, trust the project: 'agentcmd project trust ID'"

CONFIGURATIONS = 1000
"""Files of configuration that are remembered as read; then it begins anew."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HARMLESS: dict[str, frozenset[str]] = {
    "annex": _names(""),
    "blame": _names(
        "blankboundary coloring date ignorerevsfile markignoredlines showemail showroot"
    ),
    "bundle": _names(""),
    "commit": _names("cleanup gpgsign status template verbose"),
    "core": _names(
        "abbrev autocrlf bare bigfilethreshold checkroundtripencoding checkstat"
        " commentchar commitgraph compression deltabasecachelimit editor eol filemode"
        " filesreflocktimeout fscache fsmonitor fsync fsyncmethod fsyncobjectfiles hidedotfiles"
        " hookspath ignorecase logallrefupdates longpaths loosecompression maxtreedepth"
        " multipackindex notesref packedgitlimit packedgitwindowsize packedrefstimeout pager"
        " precomposeunicode prefersymlinkrefs preloadindex protecthfs protectntfs quotepath"
        " repositoryformatversion safecrlf sharedrepository sparsecheckout sparsecheckoutcone"
        " splitindex symlinks trustctime untrackedcache usereplacerefs warnambiguousrefs"
        " whitespace"
    ),
    "credential": _names(""),
    "diff": _names(
        "algorithm autorefreshindex binary cachetextconv colormoved colormovedws context dirstat"
        " dstprefix funcname guitool ignoresubmodules indentheuristic interhunkcontext"
        " mnemonicprefix noprefix relative renamelimit renames srcprefix statgraphwidth"
        " statnamewidth submodule suppressblankempty tool trustexitcode wordregex"
        " wserrorhighlight xfuncname"
    ),
    "extensions": _names(
        "compatobjectformat noop noop-v1 objectformat preciousobjects relativeworktrees"
        " worktreeconfig"
    ),
    "fetch": _names(
        "all fsckobjects negotiationalgorithm output parallel prune prunetags recursesubmodules"
        " showforcedupdates unpacklimit writecommitgraph"
    ),
    "filter": _names("required"),
    "gc": _names(
        "aggressivedepth aggressivewindow auto autodetach autopacklimit bigpackthreshold"
        " cruftpacks logexpiry maxcruftsize packrefs pruneexpire reflogexpire"
        " reflogexpireunreachable rerereresolved rerereunresolved worktreepruneexpire"
        " writecommitgraph"
    ),
    "gpg": _names("format mintrustlevel"),
    "hook": _names(""),
    "http": _names(
        "getanyfile lowspeedlimit lowspeedtime maxrequests postbuffer receivepack uploadpack"
        " version"
    ),
    "imap": _names(""),
    "include": _names(""),
    "includeif": _names(""),
    "lfs": _names("access locksverify repositoryformatversion url"),
    "mailmap": _names("blob"),
    "merge": _names(
        "autostash branchdesc conflictstyle default directoryrenames ff guitool log name"
        " recursive renamelimit renames renormalize stat suppressdest tool verbosity"
        " verifysignatures"
    ),
    "promisor": _names(""),
    "protocol": _names("version"),
    "receive": _names(
        "advertiseatomic advertisepushoptions autogc denycurrentbranch denydeletecurrent"
        " denydeletes denynonfastforwards fsckobjects keepalive maxinputsize shallowupdate"
        " unpacklimit updateserverinfo"
    ),
    "remote": _names(
        "fetch followremotehead gh-resolved mirror prune prunetags push pushdefault pushurl"
        " skipdefaultupdate skipfetchall tagopt url"
    ),
    "remotes": _names(""),  # git fetch takes what stands there for arguments of its own
    "sendemail": _names(""),
    "submodule": _names(
        "active alternateerrorstrategy alternatelocation branch fetchjobs fetchrecursesubmodules"
        " ignore path propagatebranches recurse url"
    ),
    "tar": _names("umask"),
    "trailer": _names("ifexists ifmissing key separators where"),
    "transfer": _names("advertisesid credentialsinurl fsckobjects hiderefs unpacklimit"),
    "uploadarchive": _names(""),
    "uploadpack": _names(""),
    "url": _names(""),
    "user": _names("email name signingkey useconfigonly"),
}
"""Of these sections of git-config(1) some keys have something run, or name a file outside to read.

Only the others, which stand here, are harmless: what a newer git learns is not, until it stands
here too. Aliases are: no name of a command of ours can be one. So are pagers: no terminal.
"""

_HARMFUL = re.compile(r"branch\..*\.mergeoptions|fsck\.skiplist", re.DOTALL)
"""In sections where most is harmless, and tools keep things of their own."""


class Use(IntEnum):
    """What git is to be used for; what runs something for one does so for those after it."""

    NAMES = 0
    """Names of files, and whether they are ignored."""
    LOOKS = 1
    """Anything that neither fetches, merges, commits nor signs: status, diff, snapshots."""
    ALL = 2


_CONTENTS = frozenset({"diff", "filter"})
"""Sections that are read only where git reads contents of files."""

_NOT_LOOKS = _names(
    "annex branch bundle commit credential fetch fsck gc gpg http imap lfs merge promisor protocol"
    " receive remotes sendemail tar trailer transfer uploadarchive uploadpack url user"
)
"""Sections that nothing reads which only looks."""

_NOT_LOOKS_OF: dict[str, frozenset[str]] = {
    "core": _names("askpass gitproxy sshcommand"),
    "extensions": _names("partialclone"),
    "remote": _names(
        "partialclonefilter promisor proxy proxyauthmethod receivepack serveroption uploadpack vcs"
    ),
    "submodule": _names("update"),
}
"""Of others, the names that nothing reads which only looks."""

_LAZY = re.compile(r"extensions\.partialclone|remote\..*\.(partialclonefilter|promisor)", re.DOTALL)
"""What makes a partial clone, in which a look may fetch: but see `NO_PROTOCOL`."""


def use_of(key: str) -> Use:
    """Return the first use for which a key that is not harmless has something run."""
    section, name = key.partition(".")[0], key.rpartition(".")[2]
    if section in _NOT_LOOKS or name in _NOT_LOOKS_OF.get(section, ()):
        return Use.ALL
    return Use.LOOKS if section in _CONTENTS else Use.NAMES


SERVER_HOOKS = (
    *("pre-receive", "update", "post-receive", "post-update", "reference-transaction"),
    *("proc-receive", "push-to-checkout"),
)
"""What a repository runs that is pushed to: no option of ours reaches the git there."""

KEY_LENGTH = 100
"""How much of a key is told; some hold an address, and that may be long, or have a password."""


class Runs(NamedTuple):
    """A key that has something run, as it is shown, with the first use for which it does.

    With one that is `lazy` any use may fetch, and so run whatever a fetch does.
    """

    key: str
    first: Use
    lazy: bool = False


Running = tuple[Runs, ...]

Listed = Callable[[str], Awaitable[bytes]]
"""Gives `git config --list --null` of one file."""


class Configurations:
    """Knows what repositories' own configurations would run, as long as the files stay the same."""

    def __init__(self, listed: Listed) -> None:
        """Read them with git itself, so that nobody reads them otherwise than it does."""
        self._listed = listed
        self._layouts = Layouts()
        self._known: dict[str, tuple[Stamp | None, Running]] = {}

    async def require_harmless(
        self, repository: Repository, *, changes: bool = False, use: Use = Use.ALL
    ) -> None:
        """Raise Conflict, with what stands in the way, for what would run something in this use.

        Before what `changes` the index, all repositories are looked at that lie in the work tree.
        """
        await self._require(repository, use=use)
        for each in await asyncio.to_thread(list, nested(repository, everywhere=changes)):
            where = f" in {each.root.removeprefix(repository.root + '/')}"
            await self._require(each, where, use)

    async def require_harmless_remote(self, root: str, url: str, *, pushes: bool) -> None:
        """Raise Conflict for a remote on this machine that would have something run here."""
        path = local_path(root, url)
        found = await asyncio.to_thread(_repository_at, path) if path else None
        if found is None:
            return
        await self._require(found, f" of {found.root}")
        hooks = await asyncio.to_thread(_hooks, found) if pushes else []
        if hooks:
            raise Conflict(
                f"the repository {found.root} runs hooks of its own when it is pushed to: "
                f"{', '.join(hooks)}; {TRUST}",
                keys=hooks,
            )

    async def _require(self, repository: Repository, where: str = "", use: Use = Use.ALL) -> None:
        faults = await asyncio.to_thread(self._layouts.faults, repository)
        if use < Use.ALL:
            faults = [fault for fault in faults if not fault.endswith(WAITING)]
        if faults:
            raise Conflict(
                f"the repository{where} leads git out of itself, or runs something: "
                f"{', '.join(faults[:5])}; {TRUST}",
                keys=faults[:100],
            )
        running = [
            each for path in _files(repository) for each in await self._running(path, repository)
        ]
        most = Use.ALL if any(each.lazy for each in running) else use
        found = {each.key for each in running if (use if each.lazy else most) >= each.first}
        if found:
            raise Conflict(
                f"the repository's own configuration{where} has git run or read something: "
                f"{', '.join(sorted(found)[:5])}; {TRUST}",
                keys=sorted(found)[:100],
            )

    async def _running(self, path: str, repository: Repository) -> Running:
        now = await asyncio.to_thread(stamp, path)
        if now is None:
            return ()
        if now.size > CONFIG_BYTES:
            raise Conflict(f"{path} is longer than {CONFIG_BYTES} bytes; {TRUST}")
        known = self._known.get(path)
        if known is None or known[0] != now:
            if len(self._known) >= CONFIGURATIONS:
                self._known.clear()
            listing = await self._listed(path)
            known = now, await asyncio.to_thread(_listed_running, listing, repository)
            self._known[path] = known
        return known[1]


def _files(repository: Repository) -> Iterable[str]:
    yield str(Path(repository.common_dir) / "config")
    yield str(Path(repository.git_dir) / "config.worktree")
    if repository.git_dir != repository.common_dir:
        yield str(Path(repository.common_dir) / "config.worktree")


def running(listing: bytes, repository: Repository) -> Iterator[Runs]:
    """Yield the keys that have something run, of what `git config --list --null` says."""
    for entry in listing.split(b"\0"):
        key, _, value = entry.decode(errors="replace").partition("\n")
        key = key.lower()
        if key and not _is_harmless(key, value, repository):
            lazy = _LAZY.fullmatch(key) is not None
            yield Runs(redacted(key)[:KEY_LENGTH], use_of(key), lazy)


def _listed_running(listing: bytes, repository: Repository) -> Running:
    return tuple(running(listing, repository))


def _is_harmless(key: str, value: str, repository: Repository) -> bool:
    section, name = key.partition(".")[0], key.rpartition(".")[2]
    if key == "core.worktree":  # as in every submodule
        return os.path.realpath(Path(repository.git_dir) / value) == repository.root
    if section == "submodule" and name == "update":
        return value in ("checkout", "rebase", "merge", "none")
    if key == "extensions.refstorage":
        return value in ("files", "reftable")
    allowed = _HARMLESS.get(section)
    return not _HARMFUL.fullmatch(key) if allowed is None else name in allowed


def local_path(root: str, url: str) -> str | None:
    """Give the folder on this machine that git takes a remote for; None for one elsewhere."""
    if url.startswith("file://"):
        path = unquote(url.removeprefix("file://"))
        return path if path.startswith("/") else f"//{path}"  # git knows no host there
    if "://" in url or "::" in url.split("/", maxsplit=1)[0]:
        return None
    colon, slash = url.find(":"), url.find("/")
    if colon >= 0 and (slash < 0 or colon < slash):
        return None  # HOST:PATH
    return str(Path(root) / url)


def _repository_at(path: str) -> Repository | None:
    """Find the repository that git means by a path, as its `enter_repo` does."""
    for name in (f"{path}/.git", path, f"{path}.git/.git", f"{path}.git"):
        git_dir = git_dir_of(name.removesuffix("/.git")) if name.endswith("/.git") else name
        common_dir = git_dir and common_dir_of(git_dir)
        if git_dir and common_dir:
            git_dir = os.path.realpath(git_dir)
            root = git_dir.removesuffix("/.git")
            return Repository(root, git_dir, os.path.realpath(common_dir))
    return None


def _hooks(repository: Repository) -> list[str]:
    place = Path(repository.common_dir) / "hooks"
    return [name for name in SERVER_HOOKS if os.access(place / name, os.X_OK)]
