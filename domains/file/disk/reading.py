"""Files read, with limits, and never one that could make the reader wait."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from daemon.core.errors import BadRequest, TooLarge
from domains.file.commands.looking import Encoding, FileContent, ReadFile
from domains.file.disk.containment import Place, explained, placed
from domains.file.names import shown
from domains.file.texts import (
    CODECS,
    SAMPLE,
    Codec,
    decoded,
    detect,
    line_endings,
    snapped,
)

CHUNK = 1 << 20

SCANNED = 2 << 30
"""Most bytes that one command goes over, for a hash or to find a line: some seconds."""

SLACK = 8
"""Bytes on either side of a range in which the borders of its characters are found."""

_UNREAL = ("/proc", "/sys")
"""File systems whose files are no files: some wait, some have effects, some hold secrets."""


class Part(NamedTuple):
    """Bytes of a file: from where on, and whether the file goes on behind them."""

    offset: int
    data: bytes
    more: bool


def read(
    root: str, parts: Sequence[str], asked: ReadFile, *, most: int, hashed: int
) -> FileContent:
    """Read a file: at most so many bytes of it, its hash unasked up to such a size."""
    if asked.from_line is None and asked.lines is not None:
        raise BadRequest("lines needs from_line, which counts from 1")
    if asked.from_line is not None and (asked.offset is not None or asked.length is not None):
        raise BadRequest("a range is in bytes or in lines, not in both; leave out one")
    with opened(root, parts) as (file, before):
        size = before.st_size
        ranged = (asked.offset, asked.length, asked.from_line) != (None, None, None)
        if size > most and not ranged:
            raise TooLarge(
                f"{shown(parts)} has {size} bytes, more than the {most} of [file] read_bytes: "
                "read it in parts with offset and length, or from_line and lines",
                size=size,
                most=most,
            )
        encoding = asked.encoding
        if encoding == "auto":
            encoding = _detected(file, SAMPLE if ranged else most, parts)
        codec = CODECS.get(encoding, Codec(""))
        if asked.from_line is not None:
            part = _lines(file, size, asked, most=most, codec=codec)
        else:
            wanted = min(asked.length or most, most)
            part = _range(file, asked.offset or 0, wanted, codec)
        whole = None
        if asked.hash or size <= hashed:
            whole = hash_of(file, size) if part.offset or part.more else sha256(part.data)
        after = os.fstat(file)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        whole = None
    text = _text(part, encoding)
    return FileContent(
        project_id=asked.project_id,
        path=shown(parts),
        content=text,
        encoding=encoding,
        size=after.st_size,
        modified_at=after.st_mtime,
        mode=f"{stat.S_IMODE(after.st_mode):04o}",
        offset=part.offset,
        length=len(part.data),
        truncated=part.more,
        hash=whole,
        line_endings="none" if encoding == "base64" else line_endings(text),
        from_line=asked.from_line,
        lines=None if asked.from_line is None else _counted(part.data, codec),
    )


@contextmanager
def opened(root: str, parts: Sequence[str]) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file of a project; anything else is refused, and never waited for."""
    with placed(root, parts) as place, explained(parts):
        place.required()
        file = open_at(place)
        try:
            yield file, os.fstat(file)
        finally:
            os.close(file)


def open_at(place: Place) -> int:
    """Open what is at a place, if it is a regular file; the caller closes it."""
    require_regular(place.required(), place.parts)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    file = os.open(place.name, flags, dir_fd=place.folder)
    try:
        require_regular(os.fstat(file), place.parts)
    except BaseException:
        os.close(file)
        raise
    return file


def require_regular(found: os.stat_result, parts: Sequence[str]) -> None:
    """Raise BadRequest for what is no file that can be read like one."""
    if stat.S_ISDIR(found.st_mode):
        raise BadRequest(f"{shown(parts)} is a folder; use file.tree")
    if not stat.S_ISREG(found.st_mode):
        raise BadRequest(f"{shown(parts)} is no regular file, but a device, a pipe or a socket")
    for place in _UNREAL:
        try:
            unreal = os.stat(place).st_dev == found.st_dev  # noqa: PTH116
        except OSError:
            continue
        if unreal and os.path.ismount(place):
            raise BadRequest(f"{shown(parts)} is a part of {place}, not of a disk")


def sha256(data: bytes) -> str:
    """Give the hash of what a file holds."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _detected(file: int, looked_at: int, parts: Sequence[str]) -> Encoding:
    sample = _pread(file, looked_at, 0)
    found = detect(sample, complete=len(sample) < looked_at)
    if found is None:
        raise BadRequest(
            f"{shown(parts)} is no text; read it with encoding base64",
            size=os.fstat(file).st_size,
            binary=True,
        )
    return found


def _range(file: int, offset: int, wanted: int, codec: Codec) -> Part:
    begin = offset - offset % codec.unit
    data = _pread(file, offset - begin + wanted + SLACK, begin)
    ends = len(data) < offset - begin + wanted + SLACK
    start, stop = offset - begin, min(offset - begin + wanted, len(data))
    if codec.python:
        start, stop = snapped(data, codec, start, wanted, ends=ends)
    part = data[start:stop] if start < stop else b""
    return Part(begin + start, part, not ends or stop < len(data))


def _pread(file: int, size: int, offset: int) -> bytes:
    """Read so many bytes, or to the end."""
    found: list[bytes] = []
    while size > 0:
        data = os.pread(file, min(size, 1 << 30), offset)
        if not data:
            break
        found.append(data)
        size, offset = size - len(data), offset + len(data)
    return b"".join(found)


def _lines(file: int, size: int, asked: ReadFile, *, most: int, codec: Codec) -> Part:
    if not codec.python:
        raise BadRequest("from_line is for text; read base64 by offset and length")
    offset = _nth_line(file, size, (asked.from_line or 1) - 1, codec)
    part = _range(file, offset, most, codec)
    stop = _end_of_lines(part.data, asked.lines or SCANNED, codec)
    return Part(part.offset, part.data[:stop], part.more or stop < len(part.data))


def _nth_line(file: int, size: int, skipped: int, codec: Codec) -> int:
    """Find where a line begins, the first being 0; the end of the file where there are fewer."""
    newline = "\n".encode(codec.python)
    at = 0
    while skipped:
        chunk = os.pread(file, CHUNK, at)
        if not chunk:
            break
        if at > SCANNED:
            raise TooLarge(f"that line is beyond the first {SCANNED} bytes; read it by offset")
        count = _count(chunk, newline)
        if count < skipped:
            skipped, at = skipped - count, at + len(chunk)
            continue
        place = 0
        for _ in range(skipped):
            place = _find(chunk, newline, place) + len(newline)
        return at + place
    return min(at, size)


def _end_of_lines(data: bytes, count: int, codec: Codec) -> int:
    newline, place = "\n".encode(codec.python), 0
    for _ in range(count):
        found = _find(data, newline, place)
        if found < 0:
            return len(data)
        place = found + len(newline)
    return place


def _counted(data: bytes, codec: Codec) -> int:
    newline = "\n".encode(codec.python)
    return _count(data, newline) + (bool(data) and not data.endswith(newline))


def _count(data: bytes, newline: bytes) -> int:
    if len(newline) == 1:
        return data.count(newline)
    count, place = 0, _find(data, newline, 0)
    while place >= 0:
        count, place = count + 1, _find(data, newline, place + len(newline))
    return count


def _find(data: bytes, newline: bytes, start: int) -> int:
    """Find a newline; one of two bytes begins at an even place."""
    found = data.find(newline, start)
    while found >= 0 and found % len(newline):
        found = data.find(newline, found + 1)
    return found


def hash_of(file: int, size: int) -> str:
    """Give the hash of an open file; TooLarge where that would take too long."""
    if size > SCANNED:
        raise TooLarge(f"a hash is made of at most {SCANNED} bytes; leave hash out")
    digest, at = hashlib.sha256(), 0
    while at <= SCANNED and (chunk := os.pread(file, CHUNK, at)):
        digest.update(chunk)
        at += len(chunk)
    return f"sha256:{digest.hexdigest()}"


def _text(part: Part, encoding: Encoding) -> str:
    if encoding == "base64":
        return base64.b64encode(part.data).decode()
    return decoded(part.data, encoding, at_start=part.offset == 0)
