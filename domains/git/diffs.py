"""Reads what `git diff --raw --numstat -p -z` prints: bytes in, what happened to each file out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

from daemon.core.errors import TooLarge
from domains.git.answers import Diff, FileDiff
from domains.git.porcelain import name_of

OPTIONS = (
    "--raw",
    "--numstat",
    "-z",
    "--no-abbrev",
    "--find-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--submodule=short",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)
"""How a diff is asked for, whatever a user has configured; `-p` comes with the patch."""

STATUSES: dict[str, Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]]
STATUSES = {
    "A": "added",
    "M": "modified",
    "D": "deleted",
    "R": "renamed",
    "C": "copied",
    "T": "type_changed",
}

NO_MODE = "000000"

_SECTIONS = (b"diff --git ", b"* Unmerged path ")
_QUOTED = re.compile(rb'[\x00-\x1f\x7f"\\]')
_ESCAPES = dict(zip('\a\b\t\n\v\f\r"\\', 'abtnvfr"\\', strict=True))


class Limits(NamedTuple):
    """How much of a diff is told; bytes are those of the patch."""

    files: int
    file_bytes: int
    all_bytes: int


class _Record(NamedTuple):
    """One line of `--raw`."""

    letter: str
    score: int | None
    old_mode: str
    new_mode: str
    old: bytes
    new: bytes


Counted = tuple[int | None, int | None]
"""Lines added and deleted; None in a binary file."""


def read_diff(output: bytes, limits: Limits, *, whole: bool = True, ignoring: bool = False) -> Diff:
    """Read a diff; where it is not `whole`, its end is missing.

    `ignoring` leaves out the files that `--numstat` does: with `-w`, nothing else has changed.
    """
    found, counted, at = _heads(output, whole=whole)
    records = [each for each in _merged(found) if not ignoring or (each.old, each.new) in counted]
    patch = output[at:]
    sections = _sections(patch)
    files = []
    left = limits.all_bytes
    for record in records[: limits.files]:
        start, end = sections.get(_header(record), (0, 0))
        text = _cut(patch, start, end, max(0, min(left, limits.file_bytes)))
        left -= len(text)
        missing = not whole and end in (0, len(patch))
        missing = missing or len(text) < end - start
        numbers = counted.get((record.old, record.new), (None, None))
        files.append(_file(record, numbers, text, cut=missing))
    return Diff(
        files=files,
        file_count=len(records),
        additions=sum(added or 0 for added, _ in counted.values()),
        deletions=sum(deleted or 0 for _, deleted in counted.values()),
        truncated=len(files) < len(records) or any(file.truncated for file in files),
    )


def _heads(
    output: bytes, *, whole: bool
) -> tuple[list[_Record], dict[tuple[bytes, bytes], Counted], int]:
    """Read what stands before the patch, and where that begins."""
    records: list[_Record] = []
    counted: dict[tuple[bytes, bytes], Counted] = {}
    at = 0
    while at < len(output) and output[at] != 0:
        field, at = _field(output, at)
        if field[:1] == b":":
            old_mode, new_mode, _, _, said = field[1:].decode(errors="replace").split(" ")
            old, at = _field(output, at)
            new, at = _field(output, at) if said[0] in "RC" else (old, at)
            score = int(said[1:]) if said[1:] else None
            records.append(_Record(said[0], score, old_mode, new_mode, old, new))
        else:
            added, deleted, old = field.split(b"\t", 2)
            new = old
            if not old:
                old, at = _field(output, at)
                new, at = _field(output, at)
            counted[old, new] = _number(added), _number(deleted)
    if not whole and at >= len(output):
        raise TooLarge("so many files have changed that git's list of them is cut; name paths")
    return records, counted, at + 1


def _field(output: bytes, at: int) -> tuple[bytes, int]:
    """Give what stands before the next NUL, and where the next field begins."""
    end = output.find(b"\0", at)
    if end < 0:
        raise TooLarge("so many files have changed that git's list of them is cut; name paths")
    return output[at:end], end + 1


def _number(raw: bytes) -> int | None:
    return None if raw == b"-" else int(raw)


def _merged(records: Iterable[_Record]) -> list[_Record]:
    """Give each file once: one in conflict is told as such, and as it differs from our side."""
    found: dict[tuple[bytes, bytes], _Record] = {}
    for record in records:
        before = found.get((record.old, record.new))
        if before is not None and before.letter == "U":
            found[record.old, record.new] = record._replace(letter="U")
        else:
            found[record.old, record.new] = record
    return list(found.values())


def _sections(patch: bytes) -> dict[bytes, tuple[int, int]]:
    """Find each file's part of the patch by its first line; a file that becomes a link has two."""
    starts = sorted(at for begins in _SECTIONS for at in _lines(patch, begins))
    sections: dict[bytes, tuple[int, int]] = {}
    for start, end in pairwise([*starts, len(patch)]):
        header = patch[start : patch.find(b"\n", start)]
        sections[header] = sections.get(header, (start, end))[0], end
    return sections


def _lines(patch: bytes, begins: bytes) -> Iterator[int]:
    """Yield where lines begin with these words."""
    if patch.startswith(begins):
        yield 0
    at = patch.find(b"\n" + begins)
    while at >= 0:
        yield at + 1
        at = patch.find(b"\n" + begins, at + 1)


def _header(record: _Record) -> bytes:
    """Give the first line of a file's part of the patch."""
    return b"diff --git " + _quoted(b"a/" + record.old) + b" " + _quoted(b"b/" + record.new)


def _quoted(name: bytes) -> bytes:
    """Write a name as git does: in quotes as those of C, where it has something to escape."""
    if not _QUOTED.search(name):
        return name
    return b'"' + _QUOTED.sub(_escaped, name) + b'"'


def _escaped(found: re.Match[bytes]) -> bytes:
    plain = found[0].decode()
    letter = _ESCAPES.get(plain)
    return f"\\{letter}".encode() if letter else f"\\{ord(plain):03o}".encode()


def _cut(patch: bytes, start: int, end: int, most: int) -> bytes:
    """Give a part of the patch, up to the end of a line where it is longer than allowed."""
    if end - start <= most:
        return patch[start:end]
    return patch[start : patch.rfind(b"\n", start, start + most) + 1 or start]


def _file(record: _Record, numbers: Counted, raw: bytes, *, cut: bool) -> FileDiff:
    old, new, text = name_of(record.old), name_of(record.new), name_of(raw)
    return FileDiff(
        path=new.text,
        status=STATUSES.get(record.letter, "unmerged"),
        old_path=old.text if record.old != record.new else None,
        similarity=record.score if record.letter in "RC" else None,
        old_mode=None if record.old_mode == NO_MODE else record.old_mode,
        new_mode=None if record.new_mode == NO_MODE else record.new_mode,
        binary=numbers == (None, None),
        additions=numbers[0],
        deletions=numbers[1],
        text=text.text,
        truncated=cut,
        lossy=old.lossy or new.lossy or text.lossy,
    )
