"""Frames at the borders of RFC 6455's lengths."""

from __future__ import annotations

import json

import pytest

from daemon.core import frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_a_frame_gives_its_payload_back(size):
    framed = frames.frame(b"x" * size)
    assert frames.payload(framed) == b"x" * size
    assert framed[0] == 0x81
    header = len(framed) - size
    assert header == (2 if size < 126 else 4 if size < 65536 else 10)


def test_a_body_is_the_wire_message():
    body = frames.body(frames.head_of("session:1", "a.b"), b'{"x":1}', 42, 1732312345.1234)
    assert json.loads(body) == {
        "channel": "session:1",
        "type": "a.b",
        "data": {"x": 1},
        "offset": 42,
        "ts": 1732312345.123,
    }
    assert frames.answer("a.ok", b"{}", id_=b'"7"') == (
        b'{"channel":"global","type":"a.ok","data":{},"id":"7"}'
    )
