"""A terminal's recording: whole lines with their times, whatever becomes of the disk."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import shutil
import signal
import stat
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.errors import Conflict, Unavailable
from daemon.core.supervisor import Supervisor
from domains.shell import recording as room
from domains.shell.recording import (
    BEHIND,
    BEHIND_BYTES,
    GONE,
    LATE,
    MERGE_NS,
    STOPPED,
    Header,
    Lines,
    Recording,
    mend,
)

HEADER = Header(cols=80, rows=24, command="bash -l", title="A shell", env={"SHELL": "/bin/bash"})

FULL = Path("/dev/full")

MB = 1 << 20

MS = 1_000_000
"""Nanoseconds."""


class Told:
    """What the owner of a recording hears."""

    def __init__(self):
        self.reasons = []
        self.heard = asyncio.Event()

    def __call__(self, reason):
        self.reasons.append(reason)
        self.heard.set()

    async def reason(self):
        await asyncio.wait_for(self.heard.wait(), 30)
        (reason,) = self.reasons
        return reason


@asynccontextmanager
async def recording_to(path, header=HEADER, *, limit=64 * MB, told=None, **options):
    async with Supervisor() as supervisor:
        recording = await Recording.start(
            path,
            header,
            supervisor=supervisor,
            limit=limit,
            ended=told or Told(),
            **options,
        )
        yield recording
        await recording.close()
        assert len(supervisor) == 0, "the writer has ended"


def parsed(path):
    """Read a recording that must consist of whole lines."""
    raw = path.read_bytes()
    assert raw.endswith(b"\n")
    header, *events = map(json.loads, raw.splitlines())
    assert header["version"] == 3
    assert all(
        isinstance(interval, float) and interval >= 0 and isinstance(data, str)
        for interval, _, data in events
    )
    return header, events


def text_of(events, code="o"):
    return "".join(data for _, kind, data in events if kind == code)


@contextmanager
def largest_file(size):
    """Let writes beyond `size` fail, after as much as there is room for: a disk that gets full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def put_in_place_of(file):
    """Put a pipe in the place of a file: a disk that takes nothing until the pipe is read."""
    reads, writes = os.pipe()
    os.dup2(writes, file.fileno())
    os.close(writes)
    return os.fdopen(reads, "rb")  # closing it makes every write fail


async def test_a_file_tells_what_happened_in_the_format_of_asciinema(tmp_path):
    before = time.time()
    async with recording_to(tmp_path / "casts" / "a.cast", holds_input=True) as recording:
        assert recording.state == "recording"
        assert before <= recording.started_at <= time.time()
        recording.output(b'\x1b[1m$ \x7f"\\\r\n')
        recording.input("ls é\r".encode())
        recording.resized(120, 40)
        recording.marker("here\n“now”")
        recording.marker("")
        recording.exited(7)
        await recording.close()
        assert (recording.state, recording.reason) == ("ended", None)
        assert recording.bytes == recording.path.stat().st_size
    header, events = parsed(recording.path)
    assert header == {
        "version": 3,
        "term": {"cols": 80, "rows": 24, "type": "xterm-256color"},
        "timestamp": int(recording.started_at),
        "command": "bash -l",
        "title": "A shell",
        "env": {"SHELL": "/bin/bash"},
    }
    assert [event[1:] for event in events] == [
        ["o", '\x1b[1m$ \x7f"\\\r\n'],
        ["i", "ls é\r"],
        ["r", "120x40"],
        ["m", "here\n“now”"],
        ["m", ""],
        ["x", "7"],
    ]
    assert recording.path == tmp_path / "casts" / "a.cast"
    assert stat.S_IMODE(recording.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(recording.path.parent.stat().st_mode) == 0o700


async def test_a_header_says_only_what_is_known_and_survives_what_is_no_text(tmp_path):
    odd = os.fsdecode(b"\xff")
    async with recording_to(tmp_path / "a.cast", Header(cols=1, rows=2)) as recording:
        pass
    header, _ = parsed(recording.path)
    assert header.keys() == {"version", "term", "timestamp"}
    bad = Header(cols=1, rows=2, type=odd, command=odd, title=odd, env={odd: odd})
    async with recording_to(tmp_path / "b.cast", bad) as recording:
        recording.marker(odd)
    header, ((_, _, label),) = parsed(recording.path)
    assert (header["title"], header["env"], label) == ("?", {"?": "?"}, "?")


async def test_input_is_kept_only_where_that_was_asked_for(tmp_path):
    async with recording_to(tmp_path / "a.cast") as recording:
        recording.input(b"a password\r")
        recording.output(b"ok")
    _, events = parsed(recording.path)
    assert [event[1:] for event in events] == [["o", "ok"]]


async def test_what_happens_is_in_the_file_soon_and_at_once_when_it_is_much(tmp_path, monkeypatch):
    async def until(wanted):
        async with asyncio.timeout(30):
            while text_of(parsed(recording.path)[1]) != wanted:
                await asyncio.sleep(0.005)

    async with recording_to(tmp_path / "a.cast") as recording:
        recording.output(b"soon")
        await until("soon")
        monkeypatch.setattr(room, "PACE", 60)
        recording.output(b"x" * 300_000)
        await until("soon" + "x" * 300_000)
        assert recording.bytes == recording.path.stat().st_size


@settings(max_examples=150, deadline=None)
@given(
    chunks=st.lists(
        st.tuples(
            st.sampled_from(["o", "o", "i", "m", "x"]),
            st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode)),
            st.sampled_from([0, MS // 3, MS, 17 * MS + 1]),
        ),
        max_size=30,
    ),
    cuts=st.sets(st.integers(0, 30)),
)
def test_the_contents_joined_are_the_text_in_whatever_batches_they_are_written(chunks, cuts):
    lines = Lines(0)
    clock = itertools.accumulate(wait for _, _, wait in chunks)
    events = [
        (at, code, b"" if code in "mx" else data)
        for at, (code, data, _) in zip(clock, chunks, strict=True)
    ]
    places = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    told = []
    for start, end in itertools.pairwise(places):
        told += lines.encode(events[start:end], last=end == len(events))
    told = [json.loads(line) for line in told]
    for code in "oi":
        # An exit is the end of all text before it.
        runs = [[]]
        for _, kind, data in events:
            if kind == "x":
                runs.append([])
            elif kind == code:
                runs[-1].append(data)
        wanted = "".join(b"".join(run).decode(errors="replace") for run in runs)
        assert text_of(told, code) == wanted
    assert "" not in [data for _, code, data in told if code in "oi"]
    assert [code for _, code, _ in told if code in "mx"] == [
        code for _, code, _ in events if code in "mx"
    ]


def test_a_character_has_the_time_of_its_last_byte_and_a_torn_one_is_told_before_the_exit():
    euro = "€".encode()
    lines = Lines(0)
    told = [*lines.encode([(10 * MS, "o", euro[:1]), (20 * MS, "o", euro[1:2])], last=False)]
    assert told == []
    told += lines.encode([(30 * MS, "o", euro[2:]), (40 * MS, "o", euro[:2])], last=False)
    told += lines.encode([(50 * MS, "x", b"0")], last=True)
    assert told == [
        '[0.030, "o", "€"]\n'.encode(),
        '[0.020, "o", "\ufffd"]\n'.encode(),
        b'[0.000, "x", "0"]\n',
    ]


def test_the_times_do_not_drift_however_many_events_there_are():
    start, step, count = 987_654_321, 17_333_333, 20_000
    lines = Lines(start)
    ats = [start + step * n for n in range(1, count + 1)]
    now = 0
    for at, line in zip(ats, lines.encode([(at, "o", b"x") for at in ats], last=True), strict=True):
        now += round(json.loads(line)[0] * 1000)
        assert abs(now * MS - (at - start)) <= MS / 2


def test_chunks_are_merged_only_where_the_times_are_as_good_as_equal():
    def told(*events):
        return [json.loads(line) for line in Lines(0).encode(list(events), last=True)]

    assert told((0, "o", b"a"), (MERGE_NS, "o", b"b"), (MERGE_NS + 1, "o", b"c")) == [
        [0.0, "o", "ab"],
        [0.001, "o", "c"],
    ]
    assert told(
        (0, "o", b"a"), (0, "i", b"b"), (0, "o", b"c"), (0, "r", b"1x2"), (0, "o", b"d")
    ) == [
        [0.0, "o", "a"],
        [0.0, "i", "b"],
        [0.0, "o", "c"],
        [0.0, "r", "1x2"],
        [0.0, "o", "d"],
    ]
    assert [len(data) for _, _, data in told(*[(0, "o", b"x" * 40_000)] * 3)] == [40_000] * 3


async def test_on_a_real_clock_events_are_as_far_apart_as_they_were(tmp_path):
    async with recording_to(tmp_path / "a.cast") as recording:
        times = []
        for data in (b"a", b"b"):
            times.append(time.monotonic())
            recording.output(data)
            times.append(time.monotonic())
            await asyncio.sleep(0.02)
    _, (_, (interval, _, data)) = parsed(recording.path)
    assert data == "b"
    assert times[2] - times[1] - 0.001 <= interval <= times[3] - times[0] + 0.001


async def test_recordings_never_share_a_file(tmp_path):
    async with Supervisor() as supervisor:
        options = {"supervisor": supervisor, "limit": MB, "ended": Told()}
        starts = [Recording.start(tmp_path / "t.cast", HEADER, **options) for _ in range(5)]
        recordings = await asyncio.gather(*starts)
        for n, recording in enumerate(recordings):
            recording.output(b"%d" % n)
        await asyncio.gather(*(recording.close() for recording in recordings))
    assert {recording.path.name for recording in recordings} == {
        "t.cast",
        "t-2.cast",
        "t-3.cast",
        "t-4.cast",
        "t-5.cast",
    }
    for n, recording in enumerate(recordings):
        assert text_of(parsed(recording.path)[1]) == str(n)


async def test_what_lies_there_already_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "t.cast").write_text("kept")
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "t-2.cast").symlink_to(tmp_path / "elsewhere")
    async with recording_to(tmp_path / "t.cast") as recording:
        recording.output(b"new")
    assert recording.path.name == "t-3.cast"
    assert {(tmp_path / name).read_text() for name in ("t.cast", "elsewhere")} == {"kept"}
    monkeypatch.setattr(room, "NAMES", 3)
    with pytest.raises(Conflict, match="3 recordings"):
        async with recording_to(tmp_path / "t.cast"):
            pass


async def test_a_recording_that_cannot_begin_says_why_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be made"):
        async with recording_to(tmp_path / "file" / "a.cast"):
            pass
    with largest_file(50), pytest.raises(Unavailable, match="File too large"):
        async with recording_to(tmp_path / "a.cast"):
            pass
    assert not (tmp_path / "a.cast").exists()


async def test_at_its_limit_a_recording_ends_by_itself(tmp_path):
    told = Told()
    async with recording_to(tmp_path / "a.cast", told=told, limit=20_000) as recording:
        for n in range(3000):
            recording.output(b"line %d\r\n" % n)
            recording.resized(80, n)  # so that none are merged
        await recording.close()
        recording.output(b"more")
        assert "limit of 20000 bytes" in recording.reason
        assert told.reasons == [], "whoever closes it need not be told"
    size = recording.path.stat().st_size
    assert recording.bytes == size
    assert 19_900 < size <= 20_000
    _, events = parsed(recording.path)
    assert "".join(f"line {n}\r\n" for n in range(3000)).startswith(text_of(events))


async def test_the_owner_is_told_of_the_limit_once_and_nothing_more_is_taken(tmp_path):
    told = Told()
    async with recording_to(tmp_path / "a.cast", told=told, limit=400_000) as recording:
        for _ in range(40):
            recording.output(b"x" * 30_000)
        assert "limit" in await told.reason()
        assert recording.state == "ended"
        assert "limit" in recording.reason
        recording.output(b"more")
        recording.exited(0)
        assert not recording._queue
    assert len(told.reasons) == 1
    parsed(recording.path)


async def test_an_owner_that_fails_harms_nothing(tmp_path):
    def fail(reason):
        heard.set_result(reason)
        raise RuntimeError

    heard = asyncio.get_running_loop().create_future()
    async with recording_to(tmp_path / "a.cast", told=fail, limit=1000) as recording:
        recording.output(b"x" * 300_000)
        assert "limit" in await asyncio.wait_for(heard, 30)


async def test_a_full_disk_ends_it_with_whole_lines(tmp_path):
    told = Told()
    async with recording_to(tmp_path / "a.cast", told=told) as recording:
        with largest_file(100_000):
            for n in range(20_000):
                recording.output(b"line %d\r\n" % n)
                recording.resized(80, n)
            assert "File too large" in await told.reason()
        assert recording.state == "ended"
    size = recording.path.stat().st_size
    assert recording.bytes == size
    assert 99_900 < size < 100_000
    _, events = parsed(recording.path)
    assert "".join(f"line {n}\r\n" for n in range(20_000)).startswith(text_of(events))


@pytest.mark.skipif(not FULL.exists(), reason="Linux has it")
async def test_a_disk_that_takes_nothing_ends_it_with_its_reason(tmp_path):
    told = Told()
    async with recording_to(tmp_path / "a.cast", told=told) as recording:
        with FULL.open("wb") as full:
            os.dup2(full.fileno(), recording._file._file.fileno())
        recording.output(b"x" * 300_000)
        assert "No space left" in await told.reason()
    assert recording.bytes == recording.path.stat().st_size
    assert parsed(recording.path)[1] == []


@pytest.mark.parametrize("how", ["folder", "file", "moved", "replaced"])
async def test_a_file_that_is_gone_ends_it(tmp_path, how):
    told = Told()
    path = tmp_path / "casts" / "a.cast"
    async with recording_to(path, told=told) as recording:
        if how == "folder":
            shutil.rmtree(path.parent)
        elif how == "file":
            path.unlink()
        else:
            path.rename(tmp_path / "b.cast")
        if how == "replaced":
            path.write_text("another's")
        recording.output(b"x" * 300_000)
        assert await told.reason() == GONE
    if how == "replaced":
        assert path.read_text() == "another's"


async def test_a_disk_that_does_not_keep_up_ends_it_and_nothing_waits_for_it(tmp_path):
    told = Told()
    async with recording_to(tmp_path / "a.cast", told=told) as recording:
        with put_in_place_of(recording._file._file):
            recording.output(b"first" * 60_000)
            while recording._queue:  # until the thread has it
                await asyncio.sleep(0.001)
            for _ in range(BEHIND_BYTES // 60_000 + 1):
                recording.output(b"x" * 60_000)
            assert recording.state == "ended"
            assert told.reasons == [], "whoever brings output is not the one who hears of it"
            assert await told.reason() == BEHIND
            held = len(recording._queue)
            recording.output(b"more")
            assert len(recording._queue) == held
    assert recording.reason == BEHIND


async def test_closing_gives_up_on_a_disk_that_does_not_answer_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "CLOSE_WITHIN", 0.05)
    told = Told()
    async with recording_to(tmp_path / "a.cast", told=told) as recording:
        with put_in_place_of(recording._file._file) as disk:
            recording.output(b"x" * 300_000)
            while recording._queue:
                await asyncio.sleep(0.001)
            recording.output(b"the end")
            await recording.close()
            assert (recording.state, recording.reason) == ("ended", LATE)
            monkeypatch.undo()
            late = await asyncio.to_thread(disk.read)
            await recording.close()
            assert text_of(map(json.loads, late.splitlines())) == "x" * 300_000 + "the end"
    assert told.reasons == []


async def test_closing_twice_or_together_is_closing_once(tmp_path):
    async with recording_to(tmp_path / "a.cast") as recording:
        recording.output(b"all of it")
        await asyncio.gather(recording.close(), recording.close())
        await recording.close()
        recording.output(b"too late")
    assert text_of(parsed(recording.path)[1]) == "all of it"
    assert recording._file._file.closed


async def test_a_supervisor_that_ends_has_the_rest_written(tmp_path):
    told = Told()
    async with Supervisor() as supervisor:
        recording = await Recording.start(
            tmp_path / "a.cast", HEADER, supervisor=supervisor, limit=MB, ended=told
        )
        recording.output(b"all ")
        await asyncio.sleep(0)
        recording.output("of it €".encode()[:-1])
    assert recording.state == "ended"
    assert await told.reason() == STOPPED
    await recording.close()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert text_of(parsed(recording.path)[1]) == "all of it \ufffd"
    assert recording._file._file.closed


async def test_a_supervisor_that_ends_within_a_write_loses_and_doubles_nothing(tmp_path):
    chunks = [b"%06d " % n * 5000 for n in range(60)]
    async with Supervisor() as supervisor:
        recording = await Recording.start(
            tmp_path / "a.cast", HEADER, supervisor=supervisor, limit=64 * MB, ended=Told()
        )
        for chunk in chunks[:40]:
            recording.output(chunk)
        written = recording._file._file
        disk = put_in_place_of(written)
        while recording._queue:  # until a thread is in the middle of them
            await asyncio.sleep(0.001)
        for chunk in chunks[40:]:
            recording.output(chunk)
    assert recording.state == "ended"
    raw = await asyncio.to_thread(disk.read)
    disk.close()
    assert written.closed
    assert text_of(map(json.loads, raw.splitlines())) == b"".join(chunks).decode()


FLOOD = """
import asyncio, itertools, sys
from pathlib import Path
from daemon.core.supervisor import Supervisor
from domains.shell.recording import Header, Recording

async def main():
    async with Supervisor() as supervisor:
        recording = await Recording.start(
            Path(sys.argv[1]), Header(cols=80, rows=24), supervisor=supervisor,
            limit=1 << 30, ended=sys.exit,
        )
        for n in itertools.count():
            recording.output(b"%08d\\r\\n" % n * 400)
            if n % 16 == 0:
                await asyncio.sleep(0.001)

asyncio.run(main())
"""
"""A daemon that records as fast as it can, until it is killed."""


async def test_killed_at_any_moment_it_leaves_whole_lines_and_at_most_a_torn_one(tmp_path):
    paths = [tmp_path / f"{n}.cast" for n in range(3)]
    floods = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", FLOOD, path) for path in paths
    ]
    for path, flood, wanted in zip(paths, floods, (100_000, 1_000_000, 2_000_000), strict=True):
        async with asyncio.timeout(30):
            while not path.exists() or path.stat().st_size < wanted:
                assert flood.returncode is None
                await asyncio.sleep(0.002)
        flood.send_signal(signal.SIGKILL)
        assert await flood.wait() == -signal.SIGKILL
        raw = path.read_bytes()
        whole = raw.rfind(b"\n") + 1
        assert whole > wanted / 2
        assert mend(path) == whole
        text = text_of(parsed(path)[1])
        numbers = [int(line) for line in text.split()[::400]]
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b"", b""),
        (b'{"version": 3', b""),
        (b"{}\n", b"{}\n"),
        (b'{}\n[0.1, "o"', b"{}\n"),
        (b"{}\n" + b"x" * 200_000, b"{}\n"),
        (b"x" * 200_000, b""),
        (b"x" * 70_000 + b"\n" + b"y" * 65_535, b"x" * 70_000 + b"\n"),
        (b"x" * 70_000 + b"\n" + b"y" * 65_536, b"x" * 70_000 + b"\n"),
    ],
)
def test_mending_leaves_the_whole_lines(tmp_path, raw, left):
    path = tmp_path / "a.cast"
    path.write_bytes(raw)
    assert mend(path) == len(left)
    assert path.read_bytes() == left
