"""Below the routes: clients that close their side, and what is no HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from urllib.parse import urlsplit

import pytest
from engineio_client import Poller, raw_request, until
from plain_sockets import end_of

KIB = 1024


# Half-closed


async def asked(running, request):
    """Send a request, and read to the end."""
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    told = await end_of(reader)
    writer.close()
    return told


async def asked_and_closed(running, request):
    """Send a request, close our side, and read to the end."""
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    writer.write_eof()
    told = await end_of(reader)
    writer.close()
    return told


def posted(running, body=b'{"agent":"command","argv":["true"]}', length=None):
    return (
        f"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        f"{running.token()}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


async def test_a_request_is_answered_after_its_client_has_closed_its_side(running):
    assert (await asked_and_closed(running, posted(running))).startswith(b"HTTP/1.1 201 ")
    both = await asked_and_closed(running, posted(running) * 2)
    assert both.count(b"HTTP/1.1 201 ") == 2


@pytest.mark.parametrize("path", ["/openapi.json", "/api/sessions", "/metrics"])
async def test_an_answer_is_whole_after_its_client_has_closed_its_side(running, path):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {running.token()}"
    told = await asked_and_closed(running, f"{request}\r\n\r\n".encode())
    head, _, body = told.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(body) == length


@pytest.mark.parametrize("length", [0, 1000])
async def test_what_is_no_whole_request_ends_with_its_client(running, length):
    request = posted(running, b"{", length) if length else b"GET /health HTTP/1.1\r\nHos"
    assert await asked_and_closed(running, request) == b""


async def test_streams_and_polls_end_with_their_client(running):
    token = running.token()
    stream = (
        f"GET /api/events?channel=project:scratch&token={token} HTTP/1.1\r\nHost: localhost\r\n"
    )
    poller = await Poller(running).begin()
    poll = raw_request(running, poller.query)
    for request in (f"{stream}\r\n".encode(), poll):
        await asked_and_closed(running, request)
    await until(lambda: not running.daemon._doors.streams.open)


# What is no HTTP


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA B: c\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"x" * 300 * KIB + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "too_large"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "too_large"),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * 70 * KIB + b"\r\n\r\n", 431, "too_large"),
    ],
    ids=["version", "TLS", "header name", "line", "headers", "header"],
)
@pytest.mark.usefixtures("quiet")
async def test_parser_errors_are_json(running, request_, status, code):
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request_)
    head, _, body = (await end_of(reader)).partition(b"\r\n\r\n")
    assert head.split()[1] == b"%d" % status
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body)["error"]["code"] == code
    assert len(body) < 500
    writer.close()


@pytest.mark.parametrize(
    ("said", "status"), [("100-continue", b"401"), ("100-Continue", b"401"), ("dance", b"417")]
)
async def test_an_expectation_that_is_not_met_is_json(running, said, status):
    request = (
        f"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nExpect: {said}\r\n"
        "Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    )
    told = (await asked(running, request.encode())).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert "error" in json.loads(body)


async def test_the_cookies_of_a_browser_fit(running):
    cookies = "; ".join(f"server{number}={'x' * 500}" for number in range(100))
    headers = running.headers() | {"Cookie": cookies}
    async with running.http.get(f"{running.url}/api/sessions", headers=headers) as answer:
        assert answer.status == 200
    ws = await running.http.ws_connect(f"{running.url}/ws", headers=headers)
    assert json.loads((await ws.receive()).data)["type"] == "global.connected"


async def test_a_reset_hides_no_parser_error(running):
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port)) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nCookie: " + b"x" * 150 * KIB)
        for _ in range(3):  # it does not stop at once
            await asyncio.sleep(0.05)
            await loop.sock_sendall(sock, b"x" * 10_000)
        assert (await loop.sock_recv(sock, 100)).split()[1] == b"431"
