"""Goes out to other repositories: clones, fetches, pulls and pushes; and cleans up at home."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from daemon.core.commands import Caller, handles
from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.git.arguments import branch_name, relative_path, remote_url
from domains.git.arrival import arriving, has_arrived
from domains.git.commands.remotes import (
    AddRemote,
    Clone,
    Cloned,
    Collected,
    CollectGarbage,
    Fetch,
    Fetched,
    ListRemoteRefs,
    Pull,
    Pulled,
    Push,
    Pushed,
    RemoteRefs,
    RemoteSet,
    RemoveRemote,
    SetRemoteUrl,
)
from domains.git.configuration import local_path
from domains.git.desk import Desk, Work
from domains.git.failures import explained, redacted
from domains.git.pulling import pulled, require_rested
from domains.git.pushing import parse_push, rejected, said_by_remote, stopped_push
from domains.git.references import ls_remote_of, moves, references
from domains.git.skipped import skipped
from domains.git.submodules import Filled, fill

LISTED = 1_000
"""Refs that an answer lists."""

NO_SUBMODULES = "--no-recurse-submodules"
"""Nothing goes on into submodules: their remotes are not what was asked for."""


class Remotes:
    """What has to do with repositories elsewhere."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(Clone)
    async def clone(self, command: Clone, caller: Caller) -> Cloned:
        """Clone into the project, whole or not at all."""
        url = _address(command.url, caller)
        path = command.path.rstrip("/") if command.path is not None else None
        path = relative_path(path) if path is not None else None
        options = ["--progress", "--template="]
        if command.branch is not None:
            options.append(f"--branch={branch_name(command.branch)}")
        if command.depth is not None:
            options.append(f"--depth={command.depth}")
        async with self._desk.at_work(command, caller, needs_repository=False) as git:
            await self._require_harmless(git, [url])
            filled = Filled([], [])
            if not await has_arrived(git, path):
                async with arriving(git, path) as folder:
                    await git.run("clone", *options, "--", url, folder)
                    if command.recurse:
                        filled = await fill(self._desk, git, caller, folder=folder)
            where = ("-C", f"./{path}") if path else ()
            head = await git.text(*where, "rev-parse", "-q", "--verify", "HEAD", ok=(0, 1))
            branch = await git.text(*where, "symbolic-ref", "-q", "--short", "HEAD", ok=(0, 1))
            return Cloned(
                path=path,
                head=head or None,
                branch=branch or None,
                submodules=len(filled.submodules),
                warnings=filled.warnings,
            )

    @handles(Fetch)
    async def fetch(self, command: Fetch, caller: Caller) -> Fetched:
        """Fetch from a remote."""
        remote = branch_name(command.remote) if command.remote is not None else None
        branch = branch_name(command.branch) if command.branch is not None else None
        async with self._desk.at_work(command, caller) as git:
            remote = remote or await self._remote_of_branch(git)
            await self._require_remote(git, remote)
            before = await references(git, remote)
            await self._fetch(git, remote, branch, prune=command.prune, tags=command.tags)
            found = moves(before, await references(git, remote))
            return Fetched(remote=remote, updated=found[:LISTED], updated_count=len(found))

    @handles(Pull)
    async def pull(self, command: Pull, caller: Caller) -> Pulled:
        """Fetch a branch and bring it into the current one."""
        remote = branch_name(command.remote) if command.remote is not None else None
        branch = branch_name(command.branch) if command.branch is not None else None
        async with self._desk.at_work(command, caller) as git:
            await require_rested(git)
            if remote is None or branch is None:
                upstream, of = await _upstream(git)
                if branch is None and (not of or remote not in (None, upstream)):
                    raise BadRequest(
                        "the current branch has no upstream there: say remote and branch, or push "
                        "it with setUpstream first"
                    )
                remote, branch = remote or upstream or "origin", branch or of
            await self._require_remote(git, remote)
            await self._fetch(git, remote, branch)
            return await pulled(git, remote, branch, rebase=command.rebase, ff_only=command.ff_only)

    @handles(Push)
    async def push(self, command: Push, caller: Caller) -> Pushed:
        """Push a branch."""
        remote = branch_name(command.remote) if command.remote is not None else None
        branch = branch_name(command.branch) if command.branch is not None else None
        async with self._desk.at_work(command, caller) as git:
            branch = branch or await _current(git)
            if not branch:
                raise BadRequest("the head is detached: say which branch to push")
            remote = remote or await self._remote_of_branch(git, branch, pushes=True)
            await self._require_remote(git, remote, pushes=True)
            ref = f"refs/heads/{branch}"
            options = ["--porcelain", "--progress", NO_SUBMODULES, "--no-follow-tags"]
            options += ["--set-upstream"] if command.set_upstream else []
            options += _lease(ref, command.force_with_lease)
            specs = [f"{ref}:{ref}", *(["refs/tags/*:refs/tags/*"] if command.tags else [])]
            args = ("push", *options, "--", remote, *specs)
            finished = await git.run(*args, ok=(0, 1))
            refs = await asyncio.to_thread(parse_push, finished.stdout)
            wrong = [each for each in refs if each.state == "rejected"]
            if wrong:
                raise rejected(remote, refs, wrong)
            if finished.code:
                raise stopped_push(finished) or await explained(args, finished, git.repository)
            left = await skipped(git, ("pre-push",), "push.gpgSign")
            return Pushed(
                remote=remote,
                refs=refs[:LISTED],
                said=said_by_remote(finished.stderr),
                hooks_skipped=left.hooks,
                signature_skipped=left.signature,
            )

    @handles(CollectGarbage)
    async def gc(self, command: CollectGarbage, caller: Caller) -> Collected:
        """Clean a repository up."""
        async with self._desk.at_work(command, caller) as git:
            before = await _objects(git)
            git.tell("Collecting garbage")  # git itself tells nothing but to a terminal
            await git.run("gc", "--quiet", "--prune=2.weeks.ago")
            after = await _objects(git)
            return Collected(
                before=_size(before),
                after=_size(after),
                loose=after.get("count", 0),
                packs=after.get("packs", 0),
            )

    @handles(AddRemote)
    async def remote_add(self, command: AddRemote, caller: Caller) -> RemoteSet:
        """Add a remote."""
        name, url = branch_name(command.name), _address(command.url, caller)
        async with self._desk.at_work(command, caller) as git:
            if name in await _remotes(git):
                raise Conflict(f"there is a remote {name}; give it another url by remote_set_url")
            await git.run("remote", "add", "--", name, url)
            return RemoteSet(name=name, url=redacted(url))

    @handles(RemoveRemote)
    async def remote_remove(self, command: RemoveRemote, caller: Caller) -> RemoteSet:
        """Remove a remote."""
        name = branch_name(command.name)
        async with self._desk.at_work(command, caller) as git:
            await _require_known(git, name)
            await git.run("remote", "remove", name)
            return RemoteSet(name=name)

    @handles(SetRemoteUrl)
    async def remote_set_url(self, command: SetRemoteUrl, caller: Caller) -> RemoteSet:
        """Give a remote another address."""
        name, url = branch_name(command.name), _address(command.url, caller)
        async with self._desk.at_work(command, caller) as git:
            await _require_known(git, name)
            await git.run("remote", "set-url", "--", name, url)
            return RemoteSet(name=name, url=redacted(url))

    @handles(ListRemoteRefs)
    async def ls_remote(self, command: ListRemoteRefs, caller: Caller) -> RemoteRefs:
        """List branches and tags of a remote."""
        if command.remote is not None and command.url is not None:
            raise BadRequest("say remote or url, not both")
        url = _address(command.url, caller) if command.url is not None else None
        remote = branch_name(command.remote) if command.remote is not None else None
        async with self._desk.at_work(command, caller, needs_repository=url is None) as git:
            if url is not None:
                await self._require_harmless(git, [url])
                whose = url
            else:
                whose = remote or await self._remote_of_branch(git)
                await self._require_remote(git, whose)
            finished = await git.run("ls-remote", "--quiet", "--symref", "--", whose)
            return await asyncio.to_thread(ls_remote_of, finished.stdout, command.limit)

    async def _fetch(
        self,
        git: Work,
        remote: str,
        branch: str | None,
        *,
        prune: bool = False,
        tags: bool = False,
    ) -> None:
        options = ["--progress", NO_SUBMODULES, "--prune" if prune else "--no-prune"]
        options += ["--tags"] if tags else []
        specs = [f"+refs/heads/{branch}:refs/remotes/{remote}/{branch}"] if branch else []
        await git.run("fetch", *options, "--", remote, *specs)

    async def _remote_of_branch(
        self, git: Work, branch: str | None = None, *, pushes: bool = False
    ) -> str:
        """Find the remote that git would take: the branch's, the only one, or origin."""
        branch = branch or await _current(git)
        field = "%(push:remotename)" if pushes else "%(upstream:remotename)"
        found = ""
        if branch:
            found = await git.text("for-each-ref", f"--format={field}", f"refs/heads/{branch}")
        if found and found != ".":
            return branch_name(found)
        known = await _remotes(git)
        if not known:
            raise Conflict("the repository has no remote; add one with operation remote_add")
        if len(known) > 1 and "origin" not in known:
            raise BadRequest(f"say which remote: {', '.join(known[:10])}")
        return "origin" if "origin" in known else known[0]

    async def _require_remote(self, git: Work, remote: str, *, pushes: bool = False) -> None:
        """See that a remote is one, and none that has something run here.

        Git would take an unknown name for a folder of that name.
        """
        await _require_known(git, remote)
        which = ["--push"] if pushes else []
        urls = await git.text("remote", "get-url", "--all", *which, remote)
        await self._require_harmless(git, urls.splitlines(), pushes=pushes)

    async def _require_harmless(
        self, git: Work, urls: Sequence[str], *, pushes: bool = False
    ) -> None:
        for url in () if git.trusted else urls:
            await self._desk.configurations.require_harmless_remote(git.root, url, pushes=pushes)


def _address(text: str, caller: Caller) -> str:
    """Give the address that a client names; a folder here is for those who may use any.

    Else a token for one project would read every repository of the daemon's user.
    """
    url = remote_url(text)
    if local_path("/", url) is not None:
        caller.require("write", "project:*")
    return url


async def _current(git: Work) -> str:
    return await git.text("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1))


async def _upstream(git: Work) -> tuple[str, str]:
    """Give remote and branch that the current branch follows; empty where it follows none."""
    branch = await _current(git)
    if not branch:
        return "", ""
    remote = await git.text("config", "--get", f"branch.{branch}.remote", ok=(0, 1))
    merge = await git.text("config", "--get", f"branch.{branch}.merge", ok=(0, 1))
    if not remote or remote == "." or not merge.startswith("refs/heads/"):
        return "", ""
    return branch_name(remote), branch_name(merge.removeprefix("refs/heads/"))


async def _remotes(git: Work) -> list[str]:
    return (await git.text("remote")).splitlines()


async def _require_known(git: Work, name: str) -> None:
    known = await _remotes(git)
    if name not in known:
        there = f"there is {', '.join(known[:10])}" if known else "the repository has none"
        raise NotFound(f"there is no remote {name[:80]}; {there}")


def _lease(ref: str, expected: bool | str) -> list[str]:
    if isinstance(expected, str):
        return [f"--force-with-lease={ref}:{expected}"]
    return [f"--force-with-lease={ref}", "--force-if-includes"] if expected else []


async def _objects(git: Work) -> dict[str, int]:
    counted = await git.text("count-objects", "-v")
    pairs = (line.partition(": ") for line in counted.splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def _size(counted: dict[str, int]) -> int:
    """Add up what git counts in KiB."""
    return 1024 * (counted.get("size", 0) + counted.get("size-pack", 0))
