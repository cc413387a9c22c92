"""Where a repository stands, what has changed in it, and what it holds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from daemon.core.events import Answer, command
from domains.git.answers import Commit, Diff, Summary
from domains.git.commands.making import CHANNEL
from domains.git.desk import GitCommand

Paths = Annotated[
    list[str],
    Meta(max_length=1000, description="Files or folders, relative to the project; without: all."),
]
FileBytes = Annotated[
    int, Meta(ge=0, le=4 << 20, description="Most bytes of one file's part of the patch.")
]
AllBytes = Annotated[int, Meta(ge=0, le=8 << 20, description="Most bytes of the patch in all.")]
Files = Annotated[int, Meta(ge=0, le=10_000, description="Most files that are listed.")]
ContextLines = Annotated[
    int, Meta(ge=0, le=10_000, description="Lines around each change that are shown with it.")
]
State = Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]
Conflict = Literal[
    "both_deleted",
    "added_by_us",
    "deleted_by_them",
    "added_by_them",
    "deleted_by_us",
    "both_added",
    "both_modified",
]


class SubmoduleState(Answer):
    """What is new in a submodule: another commit, changed files, untracked ones."""

    commit_changed: Annotated[bool, Meta(description="It is at another commit.")] = False
    modified: Annotated[bool, Meta(description="Files in it have changed.")] = False
    untracked: Annotated[bool, Meta(description="Files in it are new.")] = False


class FileStatus(Answer):
    """One file that is not as it was committed; `path` is relative to the project.

    `index` is what is staged of it, `work_tree` what is not; absent where that is nothing.
    `conflict` says how both sides have changed it, while that is not resolved. `old_path` is what
    it was called before, and `similarity` how like that it is, in percent. `head_mode`,
    `index_mode` and `work_tree_mode` are there where they differ: 100644, 100755 (executable),
    120000 (a link), 160000 (a submodule). `submodule` is there for one. `lossy`: the name is no
    UTF-8; it is shown with replacement characters, and cannot be given back.
    """

    path: str
    index: State | None = None
    work_tree: State | Literal["untracked"] | None = None
    conflict: Conflict | None = None
    old_path: str | None = None
    similarity: int | None = None
    head_mode: str | None = None
    index_mode: str | None = None
    work_tree_mode: str | None = None
    submodule: SubmoduleState | None = None
    lossy: bool = False


class Standing(Answer):
    """Where a repository stands: the `summary`, and its `files`, each once, conflicts first.

    `truncated`: there are more files than listed; the summary counts all.
    """

    summary: Summary
    files: list[FileStatus]
    truncated: bool = False


@command("git.status", action="read", channel=CHANNEL, answer=Standing)
class GetStatus(GitCommand):
    """Tell where a repository stands, and which files are not as they were committed.

    `untracked` says which new files are told: all of them, `normal` for a new folder as one (its
    name ends in a slash), or none. `limit` is how many files are listed at most.
    """

    untracked: Literal["none", "normal", "all"] = "all"
    limit: Annotated[int, Meta(ge=0, le=50_000)] = 5_000


@command("git.diff", action="read", channel=CHANNEL, answer=Diff)
class GetDiff(GitCommand):
    """Show what has changed: without more, what of the work tree is not staged.

    With `staged` it is what is staged. `revision` is what either is compared with, instead of the
    index and the last commit. `from` and `to` compare two revisions, with `merge_base` only what
    `to` has done since the two parted. `commit` is what that one commit did, a merge to its first
    parent. `ignore_whitespace` leaves out lines that differ in nothing else, and `stat_only` the
    patch itself.
    """

    paths: Paths = field(default_factory=list)
    staged: bool = False
    revision: str | None = None
    from_: str | None = field(default=None, name="from")
    to: str | None = None
    merge_base: bool = False
    commit: str | None = None
    context_lines: ContextLines = 3
    ignore_whitespace: bool = False
    stat_only: bool = False
    max_file_bytes: FileBytes = 256 << 10
    max_bytes: AllBytes = 2 << 20
    max_files: Files = 1_000


class FileAtRevision(Answer):
    """A file as a revision has it; `path` is relative to the project, `id` that of its contents.

    `content` is text, or base64 where `encoding` says so. `size` is in bytes, of the whole file;
    `truncated`: the content is less. `mode` is git's; the content of a link is its target.
    """

    path: str
    id: str
    mode: str
    size: int
    content: str
    encoding: Literal["utf-8", "base64"]
    truncated: bool = False


class Shown(Answer):
    """Either a commit and what it did, or a file: `commit` with `diff`, or `file`."""

    commit: Commit | None = None
    diff: Diff | None = None
    file: FileAtRevision | None = None


@command("git.show", action="read", channel=CHANNEL, answer=Shown)
class ShowRevision(GitCommand):
    """Show a commit with what it did, or with `path` that file as the revision has it.

    `revision` is any name of a commit. What a merge did is told against its first parent.
    `ignore_whitespace` and `stat_only` are as for git.diff, and so are the limits; `max_bytes` is
    that of the file, too.
    """

    revision: str = "HEAD"
    path: Annotated[str, Meta(description="A file, relative to the project.")] | None = None
    context_lines: ContextLines = 3
    ignore_whitespace: bool = False
    stat_only: bool = False
    max_file_bytes: FileBytes = 256 << 10
    max_bytes: AllBytes = 2 << 20
    max_files: Files = 1_000
