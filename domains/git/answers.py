"""What git operations answer with, where more than one of them or an event does."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from daemon.core.events import Answer


class Counts(Answer):
    """How many files are in which state; one may be both staged and changed again.

    `staged` differ from the last commit, `unstaged` from what is staged; `untracked` are new, and
    `conflicted` are changed by both sides of what is under way.
    """

    staged: int = 0
    unstaged: int = 0
    untracked: int = 0
    conflicted: int = 0


class Summary(Answer):
    """Where a repository stands.

    `head` is the commit, absent before the first one; `branch` is absent while the head is
    detached. `ahead` and `behind` count commits against the `upstream`, absent without one.
    `under_way` is what waits to be continued or aborted: a merge, rebase, cherry-pick, revert or
    bisect. `stashes` is how often work was put aside, and `counts` are of its files.
    """

    head: str | None = None
    branch: str | None = None
    upstream: str | None = None
    ahead: int | None = None
    behind: int | None = None
    under_way: str | None = None
    stashes: int = 0
    counts: Counts = Counts()


class Person(Answer):
    """Who wrote or committed something, with `name` and `email` as they stand in the commit.

    `time` is in Unix seconds, and `utc_offset` are the minutes that their clock was ahead of UTC.
    """

    name: str
    email: str
    time: int
    utc_offset: int = 0


class Commit(Answer):
    """A commit: its `id`, those of its `parents`, the first line and the rest of its message.

    `subject` is the first paragraph in one line, `body` what follows. The `author` wrote it, and
    the `committer` put it where it is. `refs` are the full names of branches and tags that are at
    it, and `HEAD`. `truncated`: the message is longer than shown.
    """

    id: str
    parents: list[str]
    author: Person
    committer: Person
    subject: str
    body: str = ""
    refs: list[str] = field(default_factory=list)
    truncated: bool = False


class FileDiff(Answer):
    """What happened to one file; `old_path` is what it was called where it was renamed or copied.

    `status` is what happened; unmerged is a file in conflict. `path` and `old_path` are relative to
    the project. `similarity` is in percent. The modes are git's, as in 100644: `old_mode` is absent
    for a new file, `new_mode` for one that is gone. A `binary` file has no counts of lines;
    `additions` and `deletions` count them in others. `text` is its part of the patch, header
    included, empty where only names were asked for; of a file in conflict it is what the work tree
    changes against our side. `truncated`: the patch is longer than shown, and ends here at the end
    of a line. `lossy`: a name or the text is no UTF-8, and is shown with replacement characters; by
    such a name it cannot be asked for.
    """

    path: str
    status: Literal["added", "modified", "deleted", "renamed", "copied", "type_changed", "unmerged"]
    old_path: str | None = None
    similarity: int | None = None
    old_mode: str | None = None
    new_mode: str | None = None
    binary: bool = False
    additions: int | None = None
    deletions: int | None = None
    text: str = ""
    truncated: bool = False
    lossy: bool = False


class Diff(Answer):
    """What happened to files; `file_count`, `additions` and `deletions` are of all of them.

    `files` are as many as were asked for, in git's order. `truncated`: there are more files, or the
    patch of one is longer than shown; its files say which.
    """

    files: list[FileDiff]
    file_count: int
    additions: int
    deletions: int
    truncated: bool = False
