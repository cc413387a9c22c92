"""Channels as logs: offsets, commit before delivery, rings, forgetting."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3

import pytest

from daemon.core import frames
from daemon.core.errors import Unavailable
from daemon.core.journal import Journal, JournalSettings
from daemon.core.retention import Retention
from daemon.core.store import Store


def put(core, channel="session:1", count=1, size=0):
    for _ in range(count):
        where = core.journal.append(channel, "t.e", frames.encode({"x": "x" * size}))
    return where


def on_disk(tmp_path, query="SELECT count(*) FROM event"):
    with contextlib.closing(sqlite3.connect(tmp_path / "agentcmd.db")) as db, db:
        return db.execute(query).fetchone()[0]


async def test_nothing_is_visible_before_it_is_on_disk(open_core, tmp_path):
    core = await open_core()
    core.journal.on_visible(lambda: seen.append((where.committed, on_disk(tmp_path))))
    seen = []
    where = put(core, count=5)
    assert (where.head, where.committed) == (5, 0)
    await core.journal.flushed()
    assert seen == [(5, 5)]


async def test_an_ephemeral_channel_never_touches_the_disk(open_core, tmp_path):
    core = await open_core()
    where = put(core, "shell:terminal:1", count=3)
    await asyncio.sleep(0)
    assert where.flushed == 3
    await core.journal.flushed()
    assert on_disk(tmp_path) == 0


async def test_what_one_step_writes_is_one_commit(open_core, tmp_path):
    core = await open_core()
    core.journal.execute("CREATE TABLE own (n INTEGER)")
    await core.journal.flushed()
    commits = core.journal.commit_seconds.count
    for n in range(50):
        put(core, f"session:{n % 7}")
        core.journal.execute("INSERT INTO own VALUES (:n)", n=n)
    await core.journal.flushed()
    assert core.journal.commit_seconds.count == commits + 1
    assert on_disk(tmp_path, "SELECT count(*) FROM own") == 50


async def test_a_statement_that_can_never_work_does_not_hold_up_the_log(open_core, tmp_path):
    core = await open_core()
    core.journal.execute("CREATE TABLE own (n INTEGER UNIQUE)")
    for n in (1, 1, 2):
        put(core)
        core.journal.execute("INSERT INTO own VALUES (:n)", n=n)
    async with asyncio.timeout(30):
        await core.journal.flushed()
    assert on_disk(tmp_path) == 3
    assert on_disk(tmp_path, "SELECT count(*) FROM own") == 2


async def test_a_disk_that_refuses_is_a_state_and_nothing_is_lost(open_core, tmp_path):
    core = await open_core(pending_bytes=10_000, reserve_bytes=50_000)
    put(core)
    await core.journal.flushed()
    # Another writer that does not let go looks to us like a disk that does not answer.
    core.store._writing.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "agentcmd.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    where = put(core, count=20, size=1000)
    async with asyncio.timeout(30):
        while core.journal.stalled is None:
            await asyncio.sleep(0.01)
    assert core.journal.gate.closed
    assert where.committed == 1
    with pytest.raises(Unavailable, match="locked"):
        core.journal.require_room()
    resumed = []
    core.journal.gate.wait(lambda: resumed.append(True))
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(30):
        await core.journal.flushed()
    assert (core.journal.stalled, where.committed, resumed) == (None, 21, [True])
    assert [f[:2] for f in await core.journal.page(where, 0)]
    assert on_disk(tmp_path) == 21


async def test_all_rings_together_stay_within_their_budget(open_core):
    core = await open_core(ring_bytes=50_000, ring_bytes_total=100_000)
    for n in range(20):
        put(core, f"session:{n}", count=30, size=1000)
        await core.journal.flushed()
    assert sum(where.ring_bytes for where in core.journal) <= 100_000
    assert core.journal._ring_total == sum(where.ring_bytes for where in core.journal)


async def test_offsets_count_from_one_without_holes_in_every_channel(open_core):
    core = await open_core()
    offsets = {"session:1": [], "session:2": [], "shell:1": []}
    for n in range(300):
        name = list(offsets)[n % 3]
        offsets[name].append(put(core, name).head)
        if n % 50 == 0:
            await asyncio.sleep(0)
    assert all(found == list(range(1, 101)) for found in offsets.values())
    await core.journal.flushed()
    for name in ("session:1", "session:2"):
        bodies = await core.store.page(core.journal.get(name).id, 0, 1000, 1 << 30)
        assert [json.loads(body)["offset"] for body in bodies] == offsets[name]


async def test_what_is_visible_is_on_disk_for_another_connection_at_every_turn(open_core, tmp_path):
    core = await open_core()
    where = put(core)
    await core.journal.flushed()
    other = sqlite3.connect(tmp_path / "agentcmd.db", isolation_level=None)
    looked = set()

    def look():
        for fresh in core.journal.take_fresh():
            fresh.flushed = fresh.committed
        (found,) = other.execute("SELECT count(*) FROM event").fetchone()
        assert found >= where.committed
        looked.add(where.committed)

    core.journal.on_visible(look)
    for _ in range(200):
        put(core, count=3)
        await asyncio.sleep(0)
    await core.journal.flushed()
    other.close()
    assert where.committed == 601
    assert len(looked) > 1


async def test_a_kept_epoch_and_head_survive_a_restart_and_a_copy_taken_while_open(
    open_core, tmp_path
):
    core = await open_core()
    where = put(core, count=7)
    await core.journal.flushed()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("agentcmd.db*"):
        shutil.copy(file, copy)
    async with Store(copy / "agentcmd.db", {}) as store:
        (head,) = await store.heads()
    assert (head.name, head.epoch, head.head) == ("session:1", where.epoch, 7)
    async with (
        Store(copy / "agentcmd.db", {}) as store,
        Journal(store, core.journal.settings, lambda _: True) as again,
    ):
        assert again.append("session:1", "t.e", b"{}").head == 8
        assert again.append("session:2", "t.e", b"{}").id != where.id


async def test_an_event_over_the_limit_is_cut_marked_and_kept_whole_aside(open_core):
    core = await open_core(event_bytes=10_000)
    data = {"sessionId": "1", "content": "é" * 60_000, "items": list(range(9_000))}
    where = core.journal.append("session:1", "t.e", frames.encode(data))
    await core.journal.flushed()
    (framed,) = await core.journal.page(where, 0)
    body = frames.payload(framed)
    assert len(body) <= 10_000
    cut = json.loads(body)
    assert (cut["offset"], cut["data"]["sessionId"], cut["data"]["truncated"]) == (1, "1", True)
    assert cut["data"]["href"] == "/api/channels/session:1/events/1"
    assert data["content"].startswith(cut["data"]["content"])
    whole = json.loads(await core.journal.whole(where, 1))
    assert (whole["data"], whole["offset"], whole["ts"]) == (data, 1, cut["ts"])
    assert await core.journal.whole(where, 2) is None


@pytest.mark.parametrize(
    "data",
    [
        {"x": "\x01" * 90_000},
        {"x" * 90_000: 1},
        ["x" * 90_000],
        "x" * 90_000,
        {str(n): n for n in range(30_000)},
        {"deep": {"deeper": ["x" * 200] * 600}},
    ],
    ids=["escapes", "a long key", "a list", "a text", "many keys", "deep"],
)
async def test_whatever_is_too_large_fits_when_it_is_cut(open_core, data):
    core = await open_core(event_bytes=10_000)
    for channel in ("session:1", "shell:1"):
        where = core.journal.append(channel, "t.e", frames.encode(data))
        await core.journal.flushed()
        await asyncio.sleep(0)
        (framed,) = await core.journal.page(where, 0)
        cut = json.loads(frames.payload(framed))
        assert len(framed) <= 10_010
        assert cut["data"]["truncated"] is True
        assert ("href" in cut["data"]) is where.durable


async def test_an_event_at_the_limit_is_not_cut(open_core):
    core = await open_core(event_bytes=10_000)
    empty = put(core)
    size = len(frames.payload(empty.frames[0])) + 1  # the offset has two digits from 10 on
    where = put(core, count=8)
    await core.journal.flushed()
    where = put(core, size=10_000 - size)
    await core.journal.flushed()
    (framed,) = await core.journal.page(where, 9)
    assert len(frames.payload(framed)) == 10_000
    assert b"truncated" not in framed


async def test_a_full_disk_is_told_bounded_and_over_by_itself(open_core):
    core = await open_core(pending_bytes=50_000, reserve_bytes=200_000, ring_bytes=10_000)
    reasons = []
    core.journal.on_stall(reasons.append)
    where = put(core)
    await core.journal.flushed()
    (used,) = await core.store.read(lambda db: db.execute("PRAGMA page_count").fetchone())
    core.store._writing.execute(f"PRAGMA max_page_count = {used + 5}")
    written = longest = 0
    resumed = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30):
        while not (reasons and core.journal.gate.closed):
            begun = loop.time()
            if not core.journal.gate.closed:  # as a pump does
                put(core, size=5_000)
                written += 1
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - begun)
    core.journal.gate.wait(resumed.set)
    assert reasons == ["database or disk is full"]
    assert core.journal.pending <= 50_000 + 5_200
    assert longest < 5.0, "the loop waited for the disk"
    with pytest.raises(Unavailable, match=r"disk is full.*free the disk"):
        core.journal.require_room()
    core.store._writing.execute("PRAGMA max_page_count = 1000000")
    async with asyncio.timeout(30):
        await core.journal.flushed()
        await resumed.wait()
    core.journal.require_room()
    assert reasons == ["database or disk is full", None]
    assert where.committed == where.head == written + 1
    bodies = await core.store.page(where.id, 0, 10_000, 1 << 30)
    assert [json.loads(body)["offset"] for body in bodies] == list(range(1, written + 2))


async def test_too_much_unwritten_is_a_reason_to_refuse_though_the_disk_is_well(open_core):
    core = await open_core(reserve_bytes=10_000)
    put(core, size=20_000)
    with pytest.raises(Unavailable, match="too far behind"):
        core.journal.require_room()
    await core.journal.flushed()
    core.journal.require_room()


async def test_closing_while_the_disk_is_full_is_bounded_and_gives_no_offset_twice(tmp_path):
    path = tmp_path / "own.db"
    settings = JournalSettings()
    begun = asyncio.get_running_loop().time()
    async with Store(path, {}) as store, Journal(store, settings, lambda _: True) as journal:
        where = journal.append("session:1", "t.e", b"{}")
        await journal.flushed()
        (used,) = await store.read(lambda db: db.execute("PRAGMA page_count").fetchone())
        store._writing.execute(f"PRAGMA max_page_count = {used}")
        stalled = asyncio.Event()
        journal.on_stall(lambda _: stalled.set())
        journal.append("session:1", "t.e", frames.encode({"x": "x" * 50_000}))
        await asyncio.wait_for(stalled.wait(), 30)
        assert (where.head, where.committed) == (2, 1)
    assert asyncio.get_running_loop().time() - begun < 20
    async with Store(path, {}) as store, Journal(store, settings, lambda _: True) as again:
        log = again.get("session:1")
        assert (log.head, log.epoch) == (1, where.epoch)  # nobody has seen offset 2


async def test_flushed_waits_for_what_was_written_before_it_and_returns_at_once_without(open_core):
    core = await open_core()
    await asyncio.wait_for(core.journal.flushed(), 30)
    first = put(core)
    waits = [asyncio.ensure_future(core.journal.flushed()) for _ in range(3)]
    await asyncio.sleep(0)
    second = put(core, "session:2")
    await core.journal.flushed()
    assert (first.committed, second.committed) == (1, 1)
    assert all(wait.done() for wait in waits)


async def test_the_ring_keeps_the_newest_and_older_ones_come_from_disk(open_core):
    core = await open_core(ring_bytes=10_000)
    where = put(core, count=100, size=1000)
    await core.journal.flushed()
    await asyncio.sleep(0)
    assert where.base > 50
    assert where.ring_bytes <= 12_500
    seen = []
    while page := await core.journal.page(where, len(seen), 20_000):
        seen += [json.loads(frames.payload(framed))["offset"] for framed in page]
    assert seen == list(range(1, 101))


async def test_an_ephemeral_channel_keeps_its_ring_and_says_when_it_is_gone(open_core):
    core = await open_core(ring_bytes=10_000)
    where = put(core, "shell:1", count=100, size=1000)
    for _ in range(3):
        await asyncio.sleep(0)
    put(core, "shell:1")
    for _ in range(3):
        await asyncio.sleep(0)
    assert where.oldest == where.base + 1 > 50
    assert await core.journal.page(where, 1) == []
    assert len(await core.journal.page(where, where.base)) == len(where.frames)


async def test_a_channel_that_was_not_delivered_in_time_is_trimmed_later(open_core):
    """Its last events are delivered a turn after its commit, and then it never speaks again."""
    core = await open_core(ring_bytes=1 << 20, ring_bytes_total=50_000)
    quiet = put(core, "session:quiet", count=3_000)  # more than one turn delivers
    await core.journal.flushed()
    core.fanout.finish()
    for n in range(20):
        put(core, f"session:{n}", size=5_000)
        await core.journal.flushed()
    assert sum(where.ring_bytes for where in core.journal) <= 50_000
    assert quiet.ring_bytes == 0


async def test_what_is_told_on_the_daemons_own_channel_is_not_kept_on_disk(open_core, tmp_path):
    core = await open_core()
    put(core, "global", count=3)
    await core.journal.flushed()
    assert on_disk(tmp_path) == 0


async def test_a_forgotten_channel_may_speak_again_in_the_same_commit(open_core, tmp_path):
    core = await open_core()
    where = put(core, count=3)
    await core.journal.flushed()
    await Retention(core.journal, core.journal.settings)._delete(where, 3)
    core.journal.forget(where)
    again = put(core)
    assert (again.head, again.epoch != where.epoch, where.frames) == (1, True, [])
    await core.journal.flushed()
    assert on_disk(tmp_path) == 1
    assert on_disk(tmp_path, "SELECT epoch FROM channel") == again.epoch


async def test_a_channel_that_somebody_vouches_for_exists_before_anything_is_told(open_core):
    core = await open_core()
    core.journal.vouch("git:project", {"shop"}.__contains__)
    assert core.journal.get("git:project:none") is None
    assert core.journal.get("other:shop") is None
    where = core.journal.get("git:project:shop")
    assert (where.name, where.head) == ("git:project:shop", 0)
    assert core.journal.get("git:project:shop") is where
