"""Reads commits as `git log` prints them, and who wrote which line as `git blame` does."""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from domains.git.answers import Commit, Person
from domains.git.commands.history import BlamedCommit, BlamedLines
from domains.git.porcelain import MESSAGE_CHARACTERS, minutes, name_of, records

_FIELDS = ("H", "P", "an", "ae", "at", "ad", "cn", "ce", "ct", "cd", "D", "s", "b")

FORMAT = (
    "--encoding=UTF-8",
    "--decorate=full",
    "--date=format:%z",
    "--no-notes",
    "--no-show-signature",
    "--no-mailmap",
    "--format=tformat:" + "".join(f"%{field}%x00" for field in _FIELDS),
    "-z",
)
"""How a log is asked for: fields that end in NUL, and one more NUL after each commit."""

WIDTH = len(_FIELDS)

LINE_BYTES = 10_000
"""Most of one blamed line that is told."""

_ESCAPED = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_ESCAPES = dict(zip(b"abtnvfr", b"\a\b\t\n\v\f\r", strict=True))


class Blaming(NamedTuple):
    """What a blame has said of `told` whole lines, and whether there were `more`."""

    commits: list[BlamedCommit]
    lines: list[BlamedLines]
    told: int
    more: bool
    lossy: bool


def read_commits(output: bytes, limit: int) -> list[Commit]:
    """Read a log of at most so many commits, which is what git was asked for."""
    return [commit_of(record) for record in islice(records(output, WIDTH, b"\0"), limit)]


def commit_of(record: list[str]) -> Commit:
    """Read one commit of its fields."""
    id_, parents, name, email, time, zone, *committed, refs, subject, body = record
    body = body.removesuffix("\n")
    return Commit(
        id=id_,
        parents=parents.split(),
        author=_person(name, email, time, zone),
        committer=_person(*committed),
        subject=subject[:MESSAGE_CHARACTERS],
        body=body[:MESSAGE_CHARACTERS],
        refs=_refs(refs),
        truncated=max(len(subject), len(body)) > MESSAGE_CHARACTERS,
    )


def _person(name: str, email: str, time: str, zone: str) -> Person:
    return Person(name=name, email=email, time=int(time or 0), utc_offset=minutes(zone))


def _refs(decoration: str) -> list[str]:
    """Read `HEAD -> refs/heads/main, tag: refs/tags/v1`."""
    return [
        ref.removeprefix("tag: ")
        for word in decoration.split(", ")
        for ref in word.split(" -> ")
        if ref == "HEAD" or ref.removeprefix("tag: ").startswith("refs/")
    ]


def read_blame(output: bytes, *, limit: int) -> Blaming:
    """Read `git blame --porcelain`, of so many lines at most; the last one may be cut."""
    reader = _BlameReader()
    more = False
    for line in output.split(b"\n")[:-1]:
        if reader.count == limit:
            more = True
            break
        reader.read(line)
    reader.close()
    return Blaming(reader.commits, reader.lines, reader.count, more, reader.lossy)


class _BlameReader:
    """Takes a blame line by line: a header, the commit where it is new, a tab and the text."""

    def __init__(self) -> None:
        self.commits: list[BlamedCommit] = []
        self.lines: list[BlamedLines] = []
        self.count = 0
        self.lossy = False
        self._places: dict[tuple[bytes, bytes], int] = {}
        self._about: dict[bytes, dict[bytes, bytes]] = {}
        self._id = b""
        self._open: tuple[int, int, int] | None = None  # the commit's place, line, original line
        self._next: tuple[int, int] = (0, 0)
        self._text: list[bytes] = []
        self._cut = False

    def read(self, line: bytes) -> None:
        if line[:1] == b"\t":
            self._take(line[1:])
        elif self._id:
            name, _, value = line.partition(b" ")
            self._about[self._id][name] = value
        else:
            self._id, original, final, *_ = line.split(b" ")
            self._about.setdefault(self._id, {})
            self._next = int(final), int(original)

    def _take(self, text: bytes) -> None:
        place = self._place()
        line, original = self._next
        told = len(self._text)
        if self._open is None or (place, line - told, original - told) != self._open:
            self.close()
            self._open = place, line, original
        self._cut = self._cut or len(text) > LINE_BYTES
        self._text.append(text[:LINE_BYTES])
        self._id = b""
        self.count += 1

    def _place(self) -> int:
        about = self._about[self._id]
        key = self._id, about.get(b"filename", b"")
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.commits)
            self.commits.append(_blamed(self._id.decode(), about))
        return place

    def close(self) -> None:
        """End the range that is open."""
        if self._open is None:
            return
        place, line, original = self._open
        text = name_of(b"".join(each + b"\n" for each in self._text))
        self.lossy = self.lossy or (text.lossy and not self._cut)
        self.lines.append(
            BlamedLines(
                commit=place,
                line=line,
                original_line=original,
                count=len(self._text),
                text=text.text,
                truncated=self._cut,
            )
        )
        self._open, self._text, self._cut = None, [], False


def _blamed(id_: str, about: dict[bytes, bytes]) -> BlamedCommit:
    def said(name: bytes) -> str:
        return about.get(name, b"").decode(errors="replace")

    author, committer = (
        _person(
            said(who),
            said(who + b"-mail").removeprefix("<").removesuffix(">"),
            said(who + b"-time"),
            said(who + b"-tz"),
        )
        for who in (b"author", b"committer")
    )
    return BlamedCommit(
        id=id_,
        author=author,
        committer=committer,
        summary=said(b"summary")[:MESSAGE_CHARACTERS],
        path=name_of(unquoted(about.get(b"filename", b""))).text,
        boundary=b"boundary" in about,
        uncommitted=not id_.strip("0"),
    )


def unquoted(name: bytes) -> bytes:
    """Read a name that git has put into quotes as those of C, or that it has not."""
    if not (name[:1] == b'"' == name[-1:] and len(name) > 1):
        return name
    return _ESCAPED.sub(_meant, name[1:-1])


def _meant(found: re.Match[bytes]) -> bytes:
    escaped = found[1]
    if len(escaped) == 3:
        return bytes((int(escaped, 8) & 255,))
    return bytes((_ESCAPES.get(escaped[0], escaped[0]),))
