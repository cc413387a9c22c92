"""Lines, whatever the chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.lines import Lines


@given(st.lists(st.binary(max_size=20)))
def test_the_lines_are_those_of_the_whole_however_it_is_cut(chunks):
    lines = Lines(1000)
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    whole = b"".join(chunks).split(b"\n")
    assert found == whole[:-1]
    assert lines.close() == (whole[-1] or None)
    assert lines.overlong == 0


def test_a_line_over_the_limit_is_passed_over_and_counted():
    lines = Lines(10)
    assert list(lines.feed(b"x" * 8)) == []
    assert list(lines.feed(b"x" * 8)) == []
    assert list(lines.feed(b"still\nshort\n" + b"y" * 11 + b"\nok\n")) == [b"short", b"ok"]
    assert lines.overlong == 2


def test_an_overlong_rest_is_no_line():
    lines = Lines(10)
    assert list(lines.feed(b"z" * 11)) == []
    assert lines.close() is None
    assert lines.overlong == 1


def test_300_kb_in_one_line_come_whole():
    lines = Lines(16 << 20)
    line = b"a" * 300_000
    found = [got for at in range(0, len(line), 4096) for got in lines.feed(line[at : at + 4096])]
    assert found + list(lines.feed(b"\n")) == [line]
