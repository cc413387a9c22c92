"""One channel's log: its ring, where subscribers begin, and logs that a domain brings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import until

from daemon.core.channel_log import ChannelLog
from daemon.core.errors import BadRequest


def filled(count, *, base=0):
    """Make a log with the frames of `base + 1 .. base + count`, all delivered."""
    log = ChannelLog(0, "shell:1", "e1", base, base + 1)
    for number in range(base + 1, base + count + 1):
        log.frames.append(b"%03d" % number)
        log.ring_bytes += 3
    log.head = log.committed = log.flushed = base + count
    return log


@pytest.mark.parametrize(
    ("since", "epoch", "place", "recovered"),
    [
        (None, None, 15, True),
        (None, "e0", 15, False),
        (0, None, 10, True),
        (0, "e0", 10, True),
        (10, "e1", 10, True),
        (12, None, 12, True),
        (15, None, 15, True),
        (9, None, 15, False),
        (16, None, 15, False),
        (12, "e0", 15, False),
    ],
)
def test_a_subscription_begins_where_it_misses_nothing_or_is_told(since, epoch, place, recovered):
    log = filled(5, base=10)
    assert log.stand(None, since=since, epoch=epoch, binary=False) == (place, recovered)
    told = log.told(None, recovered=recovered)
    assert (told.offset, told.oldest, told.recovered) == (15, 11, recovered)


def test_a_log_of_events_has_no_binary_form():
    with pytest.raises(BadRequest, match="no binary form"):
        filled(1).stand(None, since=0, epoch=None, binary=True)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 30))
def test_a_page_is_what_follows_about_as_large_as_asked(base, count, limit):
    log = filled(count, base=base)
    for after in range(base, base + count):
        page = log.page(None, after, limit)
        assert page.first == after + 1
        assert 1 <= len(page) <= (limit + 2) // 3
        assert page.joined_for(None) == b"".join(log.ring(after, after + len(page)))


def test_what_is_dropped_is_the_oldest_and_never_what_waits_for_delivery():
    log = filled(10)
    log.flushed = 4
    assert log.drop(9) == 12
    assert (log.base, log.oldest, log.frames[0]) == (4, 5, b"005")
    assert log.resync(None) is None


async def test_an_adopted_log_keeps_its_own_budget(open_core):
    core = await open_core(ring_bytes=10, ring_bytes_total=10)
    log = ChannelLog(0, "shell:1", "e1", 0, 1)
    core.journal.adopt(log)
    for _ in range(50):
        core.journal.append("shell:1", "shell.said", b"{}")
    await core.journal.flushed()
    for _ in range(3):
        core.journal.append("global", "global.said", b'{"x":"%b"}' % (b"y" * 100))
    await until(lambda: log.flushed == 50)
    assert (len(log.frames), log.flushed) == (50, 50)
    core.journal.forget(log)
    assert core.journal.get("shell:1") is None
    assert core.journal._ring_total >= 0
