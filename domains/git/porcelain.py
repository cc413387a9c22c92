"""Reads what `git status` and the lists of refs, remotes and stashes print, into answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, get_args

import msgspec

from domains.git.answers import Counts, Person
from domains.git.commands.listing import Branch, Remote, Stash, Tag
from domains.git.commands.looking import Conflict, FileStatus, State, SubmoduleState
from domains.git.failures import redacted

STATES: dict[int, State] = {ord(word[0].upper()): word for word in get_args(State)}
"""The letters of git-status(1): A, M, D, R, C and T."""

CONFLICTS: dict[bytes, Conflict] = {
    b"DD": "both_deleted",
    b"AU": "added_by_us",
    b"UD": "deleted_by_them",
    b"UA": "added_by_them",
    b"DU": "deleted_by_us",
    b"AA": "both_added",
    b"UU": "both_modified",
}

_SAME = ord(".")
_NO_MODE = b"000000"

MESSAGE_CHARACTERS = 64 << 10
"""Most of one message that is told."""

BRANCH_FIELDS = (
    "refname",
    "objectname",
    "upstream",
    "upstream:track,nobracket",
    "HEAD",
    "worktreepath",
    "committerdate:unix",
    "symref",
    "contents:subject",
)

TAG_FIELDS = (
    "refname",
    "objectname",
    "objecttype",
    "*objectname",
    "*objecttype",
    "taggername",
    "taggeremail",
    "creatordate:raw",
    "contents:subject",
    "contents:body",
)

STASH_FORMAT = "%H%x00%P%x00%ct%x00%gs%x00"

_STASHED = re.compile(r"(?:WIP on|On) ([^:]+): (.*)", re.DOTALL)


class Reading(NamedTuple):
    """What `git status --porcelain=v2 -z` has said; `files` are at most as many as asked for."""

    heads: dict[str, str]
    counts: Counts
    files: list[FileStatus]
    truncated: bool


class Name(NamedTuple):
    """A name as it can be told, and whether it is no UTF-8, so that it cannot be given back."""

    text: str
    lossy: bool


def name_of(raw: bytes) -> Name:
    """Read a name, or a text."""
    try:
        return Name(raw.decode(), lossy=False)
    except UnicodeDecodeError:
        return Name(raw.decode(errors="replace"), lossy=True)


def read_status(output: bytes, *, limit: int) -> Reading:
    """Read a status in version 2 of the format, with `-z`."""
    heads: dict[str, str] = {}
    conflicts: list[FileStatus] = []
    files = _Files(limit)
    conflicted = 0
    entries = iter(output.split(b"\0"))
    for entry in entries:
        kind = entry[:1]
        if kind == b"?":
            files.new(entry[2:])
        elif kind == b"1":
            files.changed(entry, None)
        elif kind == b"2":
            files.changed(entry, next(entries, b""))
        elif kind == b"u":
            conflicted += 1
            if len(conflicts) < limit:
                conflicts.append(_conflict(entry.split(b" ", 10)))
        elif kind == b"#":
            _, name, value = entry.decode(errors="replace").split(" ", 2)
            heads[name] = value
    counts = Counts(
        staged=files.staged,
        unstaged=files.unstaged,
        untracked=files.untracked,
        conflicted=conflicted,
    )
    listed = (conflicts + files.found)[:limit]
    more = files.more or conflicted + len(files.found) > len(listed)
    return Reading(heads, counts, listed, truncated=more)


class _Files:
    """The files of a status that are in no conflict: all are counted, as many as allowed listed."""

    def __init__(self, limit: int) -> None:
        self.found: list[FileStatus] = []
        self.more = False
        self.staged = self.unstaged = self.untracked = 0
        self._limit = limit
        self._emptied: dict[bytes, int] = {}  # gone from the index: its place in the list

    def changed(self, entry: bytes, old: bytes | None) -> None:
        """Take one that is in the index or the last commit; `old` is its name there."""
        self.staged += entry[2] != _SAME
        self.unstaged += entry[3] != _SAME
        if len(self.found) >= self._limit:
            self.more = True
            return
        fields = entry.split(b" ", 8 if old is None else 9)
        if entry[2:4] == b"D.":
            self._emptied[fields[-1]] = len(self.found)
        self.found.append(_changed(fields, old))

    def new(self, raw: bytes) -> None:
        """Take one that is not tracked; it may be one that is gone from the index and still there.

        Git tells that one twice.
        """
        self.untracked += 1
        known = self._emptied.get(raw)
        if known is not None:
            self.found[known] = msgspec.structs.replace(self.found[known], work_tree="untracked")
        elif len(self.found) < self._limit:
            path = name_of(raw)
            self.found.append(FileStatus(path=path.text, work_tree="untracked", lossy=path.lossy))
        else:
            self.more = True


def _changed(fields: list[bytes], old: bytes | None) -> FileStatus:
    path = name_of(fields[-1])
    before = None if old is None else name_of(old)
    submodule = fields[2]
    if fields[3] == fields[4] == fields[5]:
        modes: list[str | None] = [None, None, None]
    else:
        modes = _modes(fields[3:6])
    return FileStatus(
        path=path.text,
        index=STATES.get(fields[1][0]),
        work_tree=STATES.get(fields[1][1]),
        old_path=None if before is None else before.text,
        similarity=None if before is None else int(fields[8][1:]),
        head_mode=modes[0],
        index_mode=modes[1],
        work_tree_mode=modes[2],
        submodule=None if submodule == b"N..." else _submodule(submodule),
        lossy=path.lossy or (before is not None and before.lossy),
    )


def _modes(raw: list[bytes]) -> list[str | None]:
    """Give the three modes where they say something: where two that are there differ."""
    if len({mode for mode in raw if mode != _NO_MODE}) < 2:
        return [None, None, None]
    return [None if mode == _NO_MODE else mode.decode() for mode in raw]


def _submodule(flags: bytes) -> SubmoduleState | None:
    if flags == b"N...":
        return None
    return SubmoduleState(
        commit_changed=flags[1:2] == b"C",
        modified=flags[2:3] == b"M",
        untracked=flags[3:4] == b"U",
    )


def _conflict(fields: list[bytes]) -> FileStatus:
    path = name_of(fields[-1])
    return FileStatus(
        path=path.text,
        conflict=CONFLICTS.get(fields[1]),
        submodule=_submodule(fields[2]),
        lossy=path.lossy,
    )


def fields_of(names: Sequence[str]) -> str:
    """Give the format of git-for-each-ref(1) for these fields; `records` reads what comes."""
    return "".join(f"%({name})%00" for name in names)


def records(output: bytes, width: int, end: bytes = b"\n") -> Iterator[list[str]]:
    """Yield records of so many fields, each of which ends in NUL; `end` follows every record."""
    fields = _fields(output)
    begun = False
    while len(record := [each.decode(errors="replace") for each in islice(fields, width)]) == width:
        if begun and end == b"\n":
            record[0] = record[0][1:]
        begun = True
        yield record
        if end == b"\0":
            next(fields, None)


def _fields(output: bytes) -> Iterator[bytes]:
    """Yield the fields one by one: a list of a million at once holds up all threads."""
    at = 0
    while (end := output.find(b"\0", at)) >= 0:
        yield output[at:end]
        at = end + 1


def read_branches(output: bytes) -> list[Branch]:
    """Read a list of branches; what only points to another one (origin/HEAD) is none."""
    found = []
    for ref, head, upstream, track, here, tree, time, symbolic, subject in records(
        output, len(BRANCH_FIELDS)
    ):
        if symbolic:
            continue
        counts = dict(word.split(" ") for word in track.split(", ") if " " in word)
        gone = track == "gone"
        tracked = bool(upstream) and not gone
        found.append(
            Branch(
                name=ref.removeprefix("refs/heads/").removeprefix("refs/remotes/"),
                head=head,
                subject=subject[:MESSAGE_CHARACTERS],
                time=int(time or 0),
                remote=ref.startswith("refs/remotes/"),
                current=here == "*",
                worktree=tree or None,
                upstream=upstream.removeprefix("refs/remotes/").removeprefix("refs/heads/") or None,
                ahead=int(counts.get("ahead", 0)) if tracked else None,
                behind=int(counts.get("behind", 0)) if tracked else None,
                gone=gone,
            )
        )
    return found


def read_tags(output: bytes) -> list[Tag]:
    """Read a list of tags."""
    found = []
    for ref, id_, kind, target, target_kind, name, email, date, subject, body in records(
        output, len(TAG_FIELDS)
    ):
        annotated = kind == "tag"
        time, _, zone = date.partition(" ")
        tagger = None
        if annotated and (name or email):
            tagger = Person(
                name=name, email=email.strip("<>"), time=int(time), utc_offset=minutes(zone)
            )
        found.append(
            Tag(
                name=ref.removeprefix("refs/tags/"),
                target=target if annotated else id_,
                target_type=target_kind if annotated else kind,
                annotated=annotated,
                tagger=tagger,
                message=f"{subject}\n\n{body}".strip()[:MESSAGE_CHARACTERS] if annotated else "",
                time=int(time) if time else None,
            )
        )
    return found


def read_remotes(output: str) -> list[Remote]:
    """Read what `git remote -v` says; user names and passwords are left out."""
    fetched: dict[str, str] = {}
    pushed: dict[str, list[str]] = {}
    for line in output.splitlines():
        name, _, rest = line.partition("\t")
        if rest.endswith("]"):  # what a partial clone leaves out: [blob:none]
            rest = rest.rpartition(" [")[0]
        url, _, use = rest.rpartition(" ")
        if use == "(fetch)":
            fetched.setdefault(name, redacted(url))
        elif use == "(push)":
            pushed.setdefault(name, []).append(redacted(url))
    return [
        Remote(name=name, fetch_url=url, push_urls=pushed.get(name, []))
        for name, url in fetched.items()
    ]


def read_stashes(output: bytes) -> list[Stash]:
    """Read the log of the stash."""
    found = []
    for index, (id_, parents, time, said) in enumerate(records(output, 4, b"\0")):
        named = _STASHED.fullmatch(said)
        branch, message = named.groups() if named else (None, said)
        found.append(
            Stash(
                index=index,
                commit=id_,
                parent=parents.partition(" ")[0],
                message=message[:MESSAGE_CHARACTERS],
                time=int(time),
                branch=None if branch == "(no branch)" else branch,
            )
        )
    return found


def minutes(zone: str) -> int:
    """Give the minutes that a time zone as in +0130 is ahead of UTC."""
    if not re.fullmatch(r"[+-]\d{4}", zone):
        return 0
    ahead = int(zone[1:3]) * 60 + int(zone[3:])
    return -ahead if zone[0] == "-" else ahead
