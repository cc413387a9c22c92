"""One terminal's recording: what happens in it, with its times, as an asciicast v3 file.

The loop only puts events into a queue; a thread takes them out, encodes and writes them. The file
holds whole lines only, whatever happens to the disk; a daemon that is killed within a write may
leave a torn last line, which `mend` takes away. The format is described at
https://docs.asciinema.org/manual/asciicast/v3/.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Literal, Self

import msgspec
import structlog

from daemon.core.errors import Conflict, Unavailable
from daemon.core.supervisor import Supervisor

log = structlog.get_logger(__name__)

PACE = 0.25
"""Seconds that an event waits at most for its write: what a killed daemon may lose."""

BATCH_BYTES = 256 << 10
"""Bytes that wait and are written before their time; also what one `write` takes, about."""

BEHIND_BYTES = 8 << 20
"""Bytes that may wait for a slow disk, those that it is taking included."""

EVENT_BYTES = 128
"""What an event weighs in the queue besides its data: a tuple, its time, the head of its bytes."""

CLOSE_WITHIN = 3.0
"""Seconds that closing waits for the disk."""

MERGE_NS = 1_000_000
"""Nanoseconds within which chunks become one event: what rounding would blur anyway."""

LINE_BYTES = 64 << 10
"""Bytes of the largest event made of several chunks."""

NAMES = 1000
"""Recordings that may want the same name."""

BEHIND = "The recording ended because the disk did not keep up with the terminal."
GONE = "The recording ended because its file was removed or moved."
LATE = "The end of the recording may be missing because the disk did not answer in time."
STOPPED = "The recording ended because its writer was stopped."

Event = tuple[int, str, bytes]
"""Nanoseconds of the monotonic clock, one of the codes o, i, r, m, x, and the data."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the first line says: the terminal as it was when the recording began."""

    cols: int
    rows: int
    type: str = "xterm-256color"
    command: str | None = None
    title: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def line(self, started_at: float) -> bytes:
        """Encode it; `started_at` is in seconds since 1970."""
        term = {"cols": self.cols, "rows": self.rows, "type": _clean(self.type)}
        told: dict[str, object] = {"version": 3, "term": term, "timestamp": int(started_at)}
        if self.command is not None:
            told["command"] = _clean(self.command)
        if self.title is not None:
            told["title"] = _clean(self.title)
        if self.env:
            told["env"] = {_clean(name): _clean(value) for name, value in self.env.items()}
        return msgspec.json.encode(told) + b"\n"


class Recording:
    """A recording that runs: plain calls take events, and a task of its own writes them.

    `path` is where it is, `bytes` how much of it is written (always whole lines), `started_at`
    is in seconds since 1970. `state` is "ended" as soon as nothing more is taken, and `reason`
    then says why in a sentence, None where `close` asked for it and all is written.
    """

    def __init__(
        self,
        file: CastFile,
        *,
        supervisor: Supervisor,
        holds_input: bool,
        ended: Callable[[str], None],
    ) -> None:
        """Begin with a file that has its header; see `start`."""
        self.path = file.path
        self.bytes = file.size
        self.started_at = file.started_at
        self.state: Literal["recording", "ended"] = "recording"
        self.reason: str | None = None
        self._file = file
        self._holds_input = holds_input
        self._ended = ended
        self._queue = file.queue
        self._taken = 0  # bytes that were ever put into the queue
        self._asked = 0  # how many of them the thread was asked to write
        self._loop = asyncio.get_running_loop()
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task = supervisor.start(self._write_on(), name=f"recording:{file.path.name}")

    @classmethod
    async def start(
        cls,
        path: Path,
        header: Header,
        *,
        supervisor: Supervisor,
        limit: int,
        ended: Callable[[str], None],
        holds_input: bool = False,
    ) -> Self:
        """Make the file, at `path` or beside it where that is taken; Unavailable says why not.

        `limit` is in bytes. `ended` is told the reason, once and on the loop, where the recording
        ends otherwise than by `close`. Input holds passwords, so it is kept only where asked for.
        """
        file = await asyncio.to_thread(CastFile.make, path, header, limit)
        return cls(file, supervisor=supervisor, holds_input=holds_input, ended=ended)

    def output(self, data: bytes) -> None:
        """Take what the terminal shows, cut anywhere."""
        if data:
            self._take("o", data)

    def input(self, data: bytes) -> None:
        """Take what was typed, where the recording holds input."""
        if data and self._holds_input:
            self._take("i", data)

    def resized(self, cols: int, rows: int) -> None:
        """Take the terminal's new size."""
        self._take("r", b"%dx%d" % (cols, rows))

    def marker(self, label: str) -> None:
        """Take a place to find again; the label may be empty."""
        self._take("m", label.encode(errors="replace"))

    def exited(self, status: int) -> None:
        """Take the program's exit status, as a shell would tell it; `close` comes after it."""
        self._take("x", b"%d" % status)

    async def close(self) -> None:
        """End it, and wait a few seconds until what was taken is written."""
        self._end(None)
        await asyncio.wait({self._task}, timeout=CLOSE_WITHIN)
        if not self._task.done():  # it writes what waits should the disk ever answer
            self.reason = self.reason or LATE

    def _take(self, code: str, data: bytes) -> None:
        if self.state == "ended":
            return
        self._queue.append((time.monotonic_ns(), code, data))
        self._taken += len(data) + EVENT_BYTES
        if self._timer is None:
            self._timer = self._loop.call_later(PACE, self._due.set)
        if self._taken - self._asked >= BATCH_BYTES:
            self._due.set()
            if self._taken - self._file.passed > BEHIND_BYTES:
                self._end(BEHIND)

    async def _write_on(self) -> None:
        over = False
        try:
            while not over:
                await self._due.wait()
                last = self.state == "ended"
                self._rest()
                failure = await asyncio.to_thread(self._file.write, last=last)
                self.bytes = self._file.size
                over = last or failure is not None
                if failure is not None:
                    self._end(failure)
        finally:
            if not over:  # cancelled, perhaps with a thread at work: this write comes after it
                self._end(STOPPED)
                self._loop.run_in_executor(None, lambda: self._file.write(last=True))
            self._rest()

    def _rest(self) -> None:
        """Wait for new events, or the next turn of the clock."""
        self._asked = self._taken
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, reason: str | None) -> None:
        self.reason = self.reason or reason
        if self.state == "ended":
            return
        self.state = "ended"
        self._due.set()
        if reason is not None:  # not at once: whoever brought the last event is not disturbed
            self._loop.call_soon(self._tell, reason)

    def _tell(self, reason: str) -> None:
        try:
            self._ended(reason)
        except Exception:
            log.exception("recording.untold", path=str(self.path))


class CastFile:
    """The file below a recording; all of it but the queue and the counters belongs to threads."""

    def __init__(self, path: Path, file: FileIO, header: Header, limit: int) -> None:
        """Write the header into a file that is new."""
        self.path = path
        self.started_at = time.time()
        self.queue: deque[Event] = deque()
        self.size = 0  # bytes written, always whole lines
        self.passed = 0  # bytes that have left the queue, weighed as they were put in
        self._file = file
        self._limit = limit
        self._lock = threading.Lock()
        told = os.fstat(file.fileno())
        self._identity = (told.st_dev, told.st_ino)
        self._put(header.line(self.started_at))
        self._lines = Lines(time.monotonic_ns())

    @classmethod
    def make(cls, path: Path, header: Header, limit: int) -> Self:
        """Make the file, and its folder where there is none; Unavailable says why not."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made, file = _open_new(path)
            try:
                return cls(made, file, header, limit)
            except BaseException:
                file.close()
                made.unlink(missing_ok=True)
                raise
        except OSError as error:
            sentence = f"The recording {path} cannot be made: {error.strerror}."
            raise Unavailable(sentence) from None

    def write(self, *, last: bool) -> str | None:
        """Write what waits; tell why the recording is over where it has to be."""
        with self._lock:
            if self._file.closed:
                return None
            failure: str | None = None
            over = True
            try:
                failure = self._write(last=last)
                over = last or failure is not None
            except OSError as error:
                failure = f"The recording ended because it could not be written: {error.strerror}."
            finally:
                if over:
                    self.queue.clear()
                    with contextlib.suppress(OSError):  # what NFS tells at the end, too late
                        self._file.close()
            return failure

    def _write(self, *, last: bool) -> str | None:
        if not self._is_in_place():
            return GONE
        pending = bytearray()
        events = [self.queue.popleft() for _ in range(len(self.queue))]
        for line in self._lines.encode(events, last=last):
            if self.size + len(pending) + len(line) > self._limit:
                self._put(pending)
                return f"The recording ended because it reached its limit of {self._limit} bytes."
            pending += line
            if len(pending) >= BATCH_BYTES:
                self._put(pending)
                pending.clear()
        self._put(pending)
        self.passed += sum(len(data) + EVENT_BYTES for _, _, data in events)
        return None

    def _is_in_place(self) -> bool:
        """Tell whether the file is still where it was made; writing to a removed one succeeds."""
        try:
            told = self.path.stat(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (told.st_dev, told.st_ino) == self._identity

    def _put(self, lines: bytes | bytearray) -> None:
        """Append whole lines; where that fails, those that got there stay, and nothing of more."""
        done = 0
        try:
            with memoryview(lines) as view:
                while done < len(lines):
                    done += self._file.write(view[done:]) or 0
        except OSError:
            self.size += lines.rfind(b"\n", 0, done) + 1
            with contextlib.suppress(OSError):
                self._file.truncate(self.size)
            raise
        self.size += len(lines)


class Lines:
    """Events into lines of JSON, each with its time since the line before."""

    def __init__(self, started: int) -> None:
        """Count from `started`, in nanoseconds of the monotonic clock."""
        self._started = started
        self._told = 0  # milliseconds up to the last line: the sum of what was rounded
        utf8 = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"o": utf8("replace"), "i": utf8("replace")}

    def encode(self, events: list[Event], *, last: bool) -> Iterator[bytes]:
        """Give the lines; a character that is not whole waits, unless these are the last ones."""
        at = 0
        for at, code, data in _merged(events):
            if code in self._decoders:
                text = self._decoders[code].decode(data)
                if text:  # nothing yet of a character whose first bytes these are
                    yield self._line(at, code, text)
            else:
                if code == "x":
                    yield from self._unfinished(at)
                yield self._line(at, code, data.decode())
        if last:
            yield from self._unfinished(at)

    def _unfinished(self, at: int) -> Iterator[bytes]:
        for code, decoder in self._decoders.items():
            text = decoder.decode(b"", final=True)
            if text:
                yield self._line(at, code, text)

    def _line(self, at: int, code: str, text: str) -> bytes:
        # Always with a point: readers of asciinema's own refuse whole numbers and exponents.
        now = max(self._told, (at - self._started + 500_000) // 1_000_000)
        seconds, thousandths = divmod(now - self._told, 1000)
        self._told = now
        head = b'[%d.%03d, "%s", ' % (seconds, thousandths, code.encode())
        return head + msgspec.json.encode(text) + b"]\n"


def mend(path: Path) -> int:
    """Cut a torn last line off a recording that nobody writes any more; tell what is left.

    That is a number of bytes, 0 where not even the header is whole. It blocks.
    """
    with path.open("r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end:
            begin = max(0, end - LINE_BYTES)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            end = begin
            if found >= 0:
                end = begin + found + 1
                break
        if end < size:
            file.truncate(end)
        return end


def _merged(events: list[Event]) -> Iterator[Event]:
    """Join chunks that came together, as long as they are not many."""
    parts: list[bytes] = []
    begun, kind, size = 0, "", 0
    for at, code, data in events:
        if code == kind and at - begun <= MERGE_NS and size + len(data) <= LINE_BYTES:
            parts.append(data)
            size += len(data)
            continue
        if parts:
            yield begun, kind, b"".join(parts)
            parts.clear()
            kind = ""
        if code in {"o", "i"}:
            begun, kind, size = at, code, len(data)
            parts.append(data)
        else:
            yield at, code, data
    if parts:
        yield begun, kind, b"".join(parts)


def _open_new(path: Path) -> tuple[Path, FileIO]:
    """Open `path`, or the first of its kind that is not taken; nobody else can have it open."""
    for number in range(1, NAMES + 1):
        made = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        with contextlib.suppress(FileExistsError):
            return made, FileIO(made, "xb", opener=lambda name, how: os.open(name, how, 0o600))
    raise Conflict(f"There are {NAMES} recordings named {path.name} already: remove some.")


def _clean(text: str) -> str:
    """Make text that has a place in JSON of what may hold bytes that were no UTF-8."""
    return text.encode(errors="replace").decode()
