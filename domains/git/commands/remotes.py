"""Other repositories: cloned, fetched from, pushed to; and the cleaning of one's own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from daemon.core.events import Answer, command
from domains.git.answers import Summary
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"

Depth = Annotated[int, Meta(ge=1, le=1_000_000)]

Expected = Annotated[
    str, Meta(pattern="^[0-9a-f]{40}([0-9a-f]{24})?$", description="The whole id of a commit.")
]


class Cloned(Answer):
    """A clone that is there: `path` is relative to the project, absent for its own folder.

    `head` is the commit that is checked out, absent where the remote has none; `branch` is absent
    where what was asked for is a tag. `submodules` counts those that were filled; `warnings` name
    links that nothing can fill.
    """

    path: str | None = None
    head: str | None = None
    branch: str | None = None
    submodules: int = 0
    warnings: list[str] = field(default_factory=list)


class RefMove(Answer):
    """A `ref` that has moved: `before` is absent for a new one, `after` for one that is gone."""

    ref: str
    before: str | None = None
    after: str | None = None


class Fetched(Answer):
    """What came from the `remote`: `updated` has the refs that moved, `updated_count` how many."""

    remote: str
    updated: list[RefMove]
    updated_count: int


class Pulled(Answer):
    """What a pull has done: `commit` is where `branch` of the `remote` was found.

    `commits` counts those that came to the current branch. `fast_forward`: it had none of its own.
    `rebased`: its own were made anew. `up_to_date`: there was nothing to do. `summary` is where the
    repository stands now. `hooks_skipped` and `signature_skipped` are as those of a merge.
    """

    remote: str
    branch: str
    commit: str
    commits: int
    summary: Summary
    fast_forward: bool = False
    rebased: bool = False
    up_to_date: bool = False
    hooks_skipped: bool = False
    signature_skipped: bool = False


class PushedRef(Answer):
    """What became of one `ref` of the remote; `reason` is git's, as in `[new branch]`.

    A forced one had commits that are gone there now.
    """

    ref: str
    state: Literal["pushed", "created", "forced", "deleted", "up_to_date", "rejected"]
    reason: str = ""


class Pushed(Answer):
    """What the `remote` has taken: `refs` are its branches and tags, one by one.

    `said` are lines that the remote has to say, as where to open a pull request. `hooks_skipped`:
    there is a pre-push hook that was not run, because the project is not trusted.
    `signature_skipped`: pushes are to be signed, and this one is not, for the same reason.
    """

    remote: str
    refs: list[PushedRef]
    said: list[str] = field(default_factory=list)
    hooks_skipped: bool = False
    signature_skipped: bool = False


class Collected(Answer):
    """What cleaning has brought: bytes of objects, loose and packed, `before` and `after`.

    `loose` and `packs` count objects of their own, and packs, that are left.
    """

    before: int
    after: int
    loose: int
    packs: int


class RemoteSet(Answer):
    """The remote `name`, and its `url`, absent where it is no more."""

    name: str
    url: str | None = None


class RemoteRef(Answer):
    """A branch or tag of a remote by its full name, `ref`; `commit` is that of a tag, too."""

    ref: str
    commit: str


class RemoteRefs(Answer):
    """Branches and tags of a remote.

    `refs` are in the order of their names, and `head` is its default branch. `truncated`: there are
    more than were asked for.
    """

    refs: list[RemoteRef]
    head: str | None = None
    truncated: bool = False


@command("git.clone", action="write", channel=CHANNEL, answer=Cloned, cost=1.0)
class Clone(GitCommand):
    """Clone the repository at `url` into the project; after a failure nothing of it is left.

    `path` is a folder of the project that is not there yet, or empty; without it the project's own
    folder has to be empty. `branch` is a branch or tag to check out instead of the default one,
    `depth` how many commits of history come along instead of all. With `recurse` its submodules are
    filled too, and theirs. A `url` that is a folder of the daemon's machine is for tokens with
    write:project:*, here and where remotes are set.
    """

    url: str
    path: str | None = None
    branch: str | None = None
    depth: Depth | None = None
    recurse: bool = False


@command("git.fetch", action="write", channel=CHANNEL, answer=Fetched, cost=1.0)
class Fetch(GitCommand):
    """Fetch from a remote: without `branch` all that is configured.

    `remote` is by default that of the current branch. With `prune` branches that are gone there are
    forgotten here; with `tags` all tags come along, not only those of what is fetched.
    """

    remote: str | None = None
    branch: str | None = None
    prune: bool = False
    tags: bool = False


@command("git.pull", action="write", channel=CHANNEL, answer=Pulled, cost=1.0)
class Pull(GitCommand):
    """Fetch a branch and bring it into the current one; conflicts are told, as by git.merge.

    Without `remote` and `branch` it is the upstream. Where both sides have commits, `rebase` says
    whether ours are made anew on theirs; without it as git is configured. `ff_only` refuses then.
    """

    remote: str | None = None
    branch: str | None = None
    rebase: bool | None = None
    ff_only: bool = False


@command("git.push", action="write", channel=CHANNEL, answer=Pushed, cost=1.0)
class Push(GitCommand):
    """Push a branch to the one of the same name; a rejected ref is told with its reason.

    `branch` is by default the current one, `remote` the one that it is pushed to. `set_upstream`
    remembers that one as its upstream, `tags` pushes all tags too. `force_with_lease` replaces what
    is there, but only where that is what was last fetched (true), or the commit that is named.
    """

    remote: str | None = None
    branch: str | None = None
    set_upstream: bool = False
    tags: bool = False
    force_with_lease: bool | Expected = False


@command("git.gc", action="write", channel=CHANNEL, answer=Collected, cost=1.0)
class CollectGarbage(GitCommand):
    """Pack what is loose, and remove what nothing has referred to for two weeks."""


@command("git.remote_add", action="write", channel=CHANNEL, answer=RemoteSet)
class AddRemote(GitCommand):
    """Add a remote: `name`, and the `url` of its repository. Nothing is fetched yet."""

    name: str
    url: str


@command("git.remote_remove", action="write", channel=CHANNEL, answer=RemoteSet)
class RemoveRemote(GitCommand):
    """Remove a remote by its `name`, with what was fetched from its branches."""

    name: str


@command("git.remote_set_url", action="write", channel=CHANNEL, answer=RemoteSet)
class SetRemoteUrl(GitCommand):
    """Give the remote `name` another `url`."""

    name: str
    url: str


@command("git.ls_remote", action="write", channel=CHANNEL, answer=RemoteRefs, cost=1.0)
class ListRemoteRefs(GitCommand):
    """List branches and tags of a `remote`, or of the repository at a `url`, without fetching them.

    It needs write: it goes out with the credentials of the daemon's user.
    """

    remote: str | None = None
    url: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
