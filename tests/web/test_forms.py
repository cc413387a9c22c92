"""The file in a form, however it comes in pieces."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import BadRequest
from daemon.web.forms import BEFORE_BYTES, Form, boundary_of

FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nno file\r\n'
FILE = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n%b\r\n'
END = b"--x--\r\n"


async def file_of(*pieces, boundary=b"x"):
    content = StreamReader(mock.Mock(spec=BaseProtocol), 2**20, loop=asyncio.get_running_loop())
    for piece in pieces:
        content.feed_data(piece)
    content.feed_eof()
    return b"".join([piece async for piece in Form(content, boundary, 10.0).file()])


@given(
    st.lists(st.sampled_from([b"\r\n", b"--", b"x", b"\r\n--", b"a", b"-", b"\r"]), max_size=12),
    st.integers(1, 40),
)
def test_a_file_comes_whole_however_it_is_cut(parts, size):
    data = b"." + b"".join(parts).replace(b"\r\n--x", b"")
    form = FIELD + FILE % data + END
    pieces = [form[start : start + size] for start in range(0, len(form), size)]
    assert asyncio.run(file_of(*pieces)) == data


@pytest.mark.parametrize(
    "form",
    [
        b"",
        END,
        FIELD + END,
        FIELD * 20 + FILE % b"late" + END,
        FILE % b"x",
        b"junk" * 100,
        b"x" * (BEFORE_BYTES + 1) + b"\r\n" + FILE % b"late" + END,
        b"--x\r\n" + b"A: b\r\n" * 4000 + b"\r\n",
        b"--x\r\nContent-Type: text/html\r\n\r\nfilename=a\r\n" + END,
    ],
    ids=["nothing", "end", "field", "many", "half", "junk", "preamble", "head", "no disposition"],
)
async def test_a_form_without_a_whole_file_is_refused(form):
    with pytest.raises(BadRequest):
        await file_of(form)


async def test_an_empty_file_is_empty():
    assert await file_of(FILE % b"" + END) == b""
    head = b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\n'
    assert await file_of(head + END) == b""


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data ; charset=utf-8; Boundary="a b"', b"a b"),
        ("multipart/form-data;boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", None),
        ("image/png", None),
        ("", None),
    ],
)
def test_the_boundary_is_read_from_the_content_type(kind, boundary):
    if "WebKit" in kind:
        boundary = kind.partition("=")[2].encode()
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data" + ";" * 60_000],
)
def test_a_form_needs_a_boundary(kind):
    with pytest.raises(BadRequest):
        boundary_of(kind)
