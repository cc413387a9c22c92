"""Uploads over HTTP: larger than a message, named by ids, and harmless to look at."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
from urllib.parse import urlsplit

import aiohttp
import pytest

MIB = 1 << 20
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * (3 * MIB // 2)


async def sent(running, data, *, headers=None, **token):
    data = io.BytesIO(data) if isinstance(data, bytes) else data
    async with running.http.post(
        f"{running.url}/api/uploads", data=data, headers=headers or running.headers(**token)
    ) as answer:
        return answer.status, dict(answer.headers), await answer.json()


async def got(running, href, **token):
    async with running.http.get(running.url + href, headers=running.headers(**token)) as answer:
        return answer.status, answer.headers, await answer.read()


@pytest.mark.parametrize("form", [False, True], ids=["body", "form"])
async def test_a_screenshot_is_kept_and_read_again(running, form):
    data = PNG
    if form:
        data = aiohttp.FormData()
        data.add_field("title", "a screenshot")
        data.add_field("file", io.BytesIO(PNG), filename="shot.png", content_type="image/png")
    status, headers, kept = await sent(running, data)
    assert status == 201
    assert kept["href"] == headers["Location"] == f"/api/uploads/{kept['uploadId']}"
    assert (kept["mediaType"], kept["size"]) == ("image/png", len(PNG))
    status, headers, body = await got(running, kept["href"])
    assert status == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(PNG).digest()
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"] == "inline"


@pytest.mark.parametrize(
    "data", [b"<html><script>alert(1)</script>", b"<svg xmlns='x' onload='alert(1)'/>", b"%PDF-1.7"]
)
@pytest.mark.parametrize("said", ["text/html", "image/svg+xml", "image/png"])
async def test_nothing_in_a_download_runs(running, data, said):
    headers = running.headers() | {"Content-Type": said}
    _, _, kept = await sent(running, data, headers=headers)
    _, headers, body = await got(running, kept["href"])
    assert body == data
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == "attachment"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Range", "bytes=abc"),
        ("Range", "bytes=" + "9" * 5000 + "-"),
        ("Range", "bytes=0-1,3-4"),
        ("If-Modified-Since", "Mon, 01 Jan 99999999999999 00:00:00 GMT"),
        ("If-Range", "Mon, 01 Jan 99999999999999 00:00:00 GMT"),
    ],
)
async def test_a_condition_that_cannot_be_read_is_refused(running, name, value):
    _, _, kept = await sent(running, b"x" * 100)
    headers = running.headers() | {name: value}
    async with running.http.get(running.url + kept["href"], headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "bad_request"


async def test_a_part_of_a_download_can_be_had(running):
    _, _, kept = await sent(running, b"0123456789")
    headers = running.headers() | {"Range": "bytes=2-4"}
    async with running.http.get(running.url + kept["href"], headers=headers) as answer:
        assert (answer.status, await answer.read()) == (206, b"234")


async def test_an_upload_is_its_senders(running):
    _, _, kept = await sent(running, PNG, user="me")
    assert (await got(running, kept["href"], user="other", scope="read:*"))[0] == 404
    assert (await got(running, kept["href"], user="me", scope="read:session:x"))[0] == 200
    async with running.http.get(running.url + kept["href"]) as answer:
        assert answer.status == 401
    for id_ in ("none", "..%2Fjwt.secret", "..", "%00", "x" * 300):
        assert (await got(running, f"/api/uploads/{id_}"))[0] == 404


@pytest.mark.parametrize(
    ("data", "options", "status", "code"),
    [
        (b"", {}, 400, "bad_request"),
        (b"x" * 3000, {}, 413, "too_large"),
        (b"x", {"scope": "read:*"}, 403, "forbidden"),
    ],
)
async def test_what_is_not_kept_is_refused_with_its_code(start_daemon, data, options, status, code):
    running = await start_daemon(UPLOAD__FILE_BYTES="2000")
    answer = await sent(running, data, **options)
    assert (answer[0], answer[2]["error"]["code"]) == (status, code)
    folder = running.daemon.state_dir / "uploads"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"junk"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nno file\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 10_000),
        ("multipart/form-data; boundary=" + "x" * 5000, b"x" * MIB),
    ],
    ids=["no boundary", "junk", "no file", "boundaries", "long boundary"],
)
async def test_a_form_without_a_file_is_refused(running, kind, body):
    status, _, told = await sent(running, body, headers=running.headers() | {"Content-Type": kind})
    assert (status, told["error"]["code"]) == (400, "bad_request")
    assert list((running.daemon.state_dir / "uploads").iterdir()) == []


async def test_an_upload_that_stands_still_is_given_up(start_daemon):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.2")
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        b"Authorization: Bearer %b\r\n\r\nbegun" % running.token().encode()
    )
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert list((running.daemon.state_dir / "uploads").iterdir()) == []


async def test_an_upload_that_breaks_off_leaves_nothing(running):
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port)) as sock:
        sock.sendall(
            b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            b"Authorization: Bearer %b\r\n\r\nbegun" % running.token().encode()
        )
        folder = running.daemon.state_dir / "uploads"
        async with asyncio.timeout(30):
            while not list(folder.iterdir()):
                await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        while list(folder.iterdir()):
            await asyncio.sleep(0.01)
