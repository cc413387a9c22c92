"""Messages come out of a client's bytes as they were put in, however the bytes are cut."""

from __future__ import annotations

import pytest
from aiohttp import WSMsgType
from client_frames import BINARY, CLOSE, MORE, PING, PONG, TEXT, fragments, frame
from hypothesis import given
from hypothesis import strategies as st

from daemon.web.receiver import CODES, FRAGMENT, Message, Receiver, Violation, unmasked

LIMIT = 1000

masks = st.binary(min_size=4, max_size=4).filter(any)
texts = st.text(max_size=200)
payloads = st.binary(max_size=125)


@st.composite
def messages(draw):
    """Make a message with the bytes that a client sends for it; control frames may be amid it."""
    kind = draw(st.sampled_from(["text", "binary", "fragments", "ping", "pong", "close"]))
    mask = draw(masks)
    if kind in ("ping", "pong"):
        payload = draw(payloads)
        opcode = PING if kind == "ping" else PONG
        return [Message(WSMsgType(opcode), payload)], frame(payload, opcode, mask=mask)
    if kind == "close":
        code = draw(st.sampled_from(sorted(CODES)))
        reason = draw(st.text(max_size=20)).encode()
        sent = frame(code.to_bytes(2, "big") + reason, CLOSE, mask=mask)
        return [Message(WSMsgType.CLOSE, code)], sent
    text = draw(texts)
    if kind == "fragments":
        pieces = [*text, ""]
        ping = frame("amid", PING, mask=mask)
        whole = [Message(WSMsgType.PING, b"amid")] * len(pieces) + [Message(WSMsgType.TEXT, text)]
        return whole, b"".join(ping + each for each in fragments(*pieces))
    if kind == "binary":
        return [Message(WSMsgType.BINARY, text.encode())], frame(text, BINARY, mask=mask)
    return [Message(WSMsgType.TEXT, text)], frame(text, TEXT, mask=mask)


def received(receiver, *pieces):
    """Feed pieces, and take what comes out of each before the next."""
    found = []
    for piece in pieces:
        receiver.feed(piece)
        while (message := receiver.next()) is not None:
            found += [message] if message is not FRAGMENT else []
    return found


def violation(*frames, limit=LIMIT):
    """Give the code that ends a client that sends these."""
    with pytest.raises(Violation) as caught:
        received(Receiver(limit), *frames)
    return caught.value.code


@given(st.lists(messages(), max_size=5), st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_every_message_comes_out_whole_wherever_its_bytes_are_cut(sent, sizes):
    whole = b"".join(data for _, data in sent)
    pieces, at = [], 0
    while at < len(whole):
        pieces.append(whole[at : at + sizes[len(pieces) % len(sizes)]])
        at += len(pieces[-1])
    expected = [message for each, _ in sent for message in each]
    assert received(Receiver(LIMIT), *pieces) == expected
    assert received(Receiver(LIMIT), whole) == expected


@given(st.lists(st.text(max_size=200), min_size=1, max_size=6))
def test_what_is_not_taken_yet_waits_for_what_comes_after_it(sent):
    receiver = Receiver(LIMIT)
    for text in sent:
        receiver.feed(frame(text))
    assert [receiver.next().data for _ in sent] == sent
    assert receiver.next() is None


@given(st.binary(max_size=50), masks)
def test_a_mask_is_every_byte_against_its_own(data, mask):
    expected = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    assert unmasked(data, mask) == expected
    assert unmasked(expected, mask) == data


def test_a_frame_over_the_limit_is_refused_before_any_of_it_has_come():
    assert violation(frame("", size=LIMIT + 1)) == 1009
    assert violation(frame("x" * LIMIT, fin=False), frame("", MORE, size=1)) == 1009
    assert violation(frame("", size=(1 << 64) - 1, width=8)) == 1009


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame("x", mask=b""), 1002),
        (frame("x", rsv=0x40), 1002),
        (frame("x", 3), 1002),
        (frame("x", MORE), 1002),
        (frame("x", fin=False) + frame("x"), 1002),
        (frame("x", PING, fin=False), 1002),
        (frame("x" * 126, PING), 1002),
        (frame(b"\x03", CLOSE), 1002),
        (frame(b"\x03\xed", CLOSE), 1002),
        (frame(b"\x03\xe8\xff", CLOSE), 1007),
        (frame(b"\xff"), 1007),
        (frame("é".encode()[:1], fin=False) + frame("x", MORE), 1007),
    ],
)
def test_what_must_not_be_sent_is_a_violation(sent, code):
    assert violation(sent) == code


def test_a_goodbye_may_say_nothing():
    assert received(Receiver(LIMIT), frame("", CLOSE)) == [Message(WSMsgType.CLOSE, 0)]


def test_half_a_frame_is_looked_at_no_more_often_than_it_has_parts():
    looked = []

    class Counting(Receiver):
        __slots__ = ()

        def _checked(self, *head):
            looked.append(head)
            return super()._checked(*head)

    sent = frame("x" * 70_000)
    pieces = (sent[at : at + 1] for at in range(len(sent)))
    assert len(received(Counting(1 << 20), *pieces)[0].data) == 70_000
    assert len(looked) == 2, "once by its head, and once as a whole"
