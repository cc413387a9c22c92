"""Images of a message: sent ahead, named at any door, and had again by who follows the session."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
import zlib

import pytest
from model import script
from support import follow

from daemon.core.errors import BadRequest, NotFound, TooLarge, Unavailable
from daemon.core.uploads import Upload, media_type_of
from domains.session.images import (
    INLINE_BYTES,
    MAX_IMAGES,
    MESSAGE_BYTES,
    WAITING_BYTES,
    Images,
    content_of,
    images_of,
    require_room,
    told,
)
from domains.session.messages import Image, Message, Text, ToolResult


def chunk(kind, data):
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def screenshot(side=720):
    """Draw a picture of noise, which no compression makes small."""
    rows = b"".join(b"\0" + os.urandom(side * 3) for _ in range(side))
    head = struct.pack("!IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows, 0))
        + chunk(b"IEND", b"")
    )


class Kept:
    """Uploads with one large image and one text."""

    def find(self, id_, _):
        if id_ not in ("image", "text", "huge"):
            raise NotFound("none")
        size = MESSAGE_BYTES if id_ == "huge" else 3
        kind = "text/plain" if id_ == "text" else "image/png"
        return Upload(id_, kind, size, "me")

    def href(self, id_):
        return f"/api/uploads/{id_}"

    async def read(self, _):
        return b"png"


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        ([Image(upload_id="none")], NotFound, "none"),
        ([Image(upload_id="text")], BadRequest, "no image"),
        ([Image(upload_id="huge")], TooLarge, "at most"),
        ([Image(upload_id="image", data="aGk=")], BadRequest, "not both"),
        ([Image(media_type="image/png")], BadRequest, "needs its data"),
        ([Image()], BadRequest, "is one of"),
        ([Image(media_type="image/png", data="a")], BadRequest, "base64"),
        ([Image(media_type="text/html", data="aGk=")], BadRequest, "is one of"),
        ([Image(upload_id="image")] * (MAX_IMAGES + 1), BadRequest, "at most"),
    ],
)
async def test_what_is_no_image_is_refused(images, error, match):
    with pytest.raises(error, match=match):
        await Images(Kept()).resolved(images, None)


def test_images_that_wait_are_bounded():
    large = Image(data="x" * (WAITING_BYTES // 2))
    require_room([large, large])
    with pytest.raises(Unavailable):
        require_room([large, large, Image(data="x")])


async def test_an_image_has_its_data_for_the_agent_and_a_place_of_ours_for_clients():
    sent = [
        Image(upload_id="image", href="http://evil.example"),
        Image(media_type="image/gif", data="aGk=", href="/evil"),
    ]
    uploaded, inline = await Images(Kept()).resolved(sent, None)
    assert (uploaded.data, uploaded.href) == ("cG5n", "/api/uploads/image")
    assert (inline.data, inline.href) == ("aGk=", None)


def large(kind="image/png"):
    return Image(media_type=kind, data="QUJD" * (INLINE_BYTES // 4 + 1))


def test_a_message_is_told_with_places_of_its_images_instead_of_large_data():
    small = Image(media_type="image/gif", data="aGk=")
    sent = Image(media_type="image/png", upload_id="u", href="/api/uploads/u")
    result = ToolResult(tool_use_id="t", content="[image/png]", images=[large(), small])
    message = Message(id="m", role="user", content=[sent, small, Text(text="x"), result])
    as_told = told(message, lambda number: f"/{number}")
    assert [(each.href, bool(each.data)) for each in images_of(as_told)] == [
        ("/api/uploads/u", False),
        ("/1", True),
        ("/2", False),
        ("/3", True),
    ]
    assert [content_of(message, number).media_type for number in (1, 2, 3)] == [
        "image/gif",
        "image/png",
        "image/gif",
    ]
    plain = Message(id="m", role="user", content=[Text(text="x")])
    assert told(plain, str) is plain


@pytest.mark.parametrize("index", [0, 1, 5])
def test_an_image_that_is_none_is_not_found(index):
    junk = Image(media_type="image/png", data="no base64")
    message = Message(id="m", role="user", content=[junk, Image(upload_id="u")])
    with pytest.raises(NotFound):
        content_of(message if index else None, index)
    with pytest.raises(NotFound):
        content_of(message, 0)


async def test_an_image_that_a_tool_gave_back_can_be_had(start_daemon, claude, tmp_path):
    running = await start_daemon(**claude)
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "picture.png").write_bytes(screenshot(300))
    read = {"tool": "Read", "input": {"file_path": str(folder / "picture.png")}}
    async with running.client() as client:
        project = await client.call("project.add", {"path": str(folder)})
        created = await client.call(
            "session.create",
            {
                "agent": "claude",
                "projectId": project["projectId"],
                "prompt": script([read], [{"text": "seen"}]),
            },
        )
        events = await follow(client, f"session:{created['sessionId']}")
        (result,) = [
            block
            for event in events
            if event.type == "session.message"
            for block in event.data["message"]["content"]
            if block["type"] == "tool_result"
        ]
        (image,) = result["images"]
        assert "data" not in image
        place = dict(pair.split("=") for pair in image["href"].partition("?")[2].split("&"))
        given = await client.call(
            "session.image",
            {
                "sessionId": created["sessionId"],
                "messageId": place["messageId"],
                "index": int(place["index"]),
            },
        )
    async with running.http.get(running.url + image["href"], headers=running.headers()) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == image["mediaType"] == given["mediaType"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        data = await answer.read()
    assert media_type_of(data[:12]) == image["mediaType"]
    assert base64.b64decode(given["data"]) == data
    gone = image["href"].replace("index=0", "index=9")
    async with running.http.get(running.url + gone, headers=running.headers()) as answer:
        assert answer.status == 404


async def test_a_screenshot_is_sent_ahead_reaches_the_model_and_is_had_again(
    start_daemon, claude, model
):
    running = await start_daemon(**claude)
    picture = screenshot()
    assert len(picture) > 1_500_000
    async with running.http.post(
        f"{running.url}/api/uploads", data=io.BytesIO(picture), headers=running.headers()
    ) as answer:
        assert answer.status == 201
        kept = await answer.json()
    image = {"type": "image", "uploadId": kept["uploadId"]}
    async with running.client() as client:
        created = await client.call(
            "session.create", {"agent": "claude", "prompt": script([{"text": "nice"}]),
                               "images": [image]}
        )  # fmt: skip
        events = await follow(client, f"session:{created['sessionId']}")
    told = [
        block
        for event in events
        if event.type == "session.message" and event.data["message"]["role"] == "user"
        for block in event.data["message"]["content"]
    ]
    assert told[0] == {
        "type": "image",
        "mediaType": "image/png",
        "uploadId": kept["uploadId"],
        "href": kept["href"],
    }
    sources = [
        block["source"]
        for message in model.requests[-1]["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "image"
    ]
    assert len(sources) == 1
    assert len(base64.b64decode(sources[0]["data"])) > 10_000  # an agent may make it smaller
    follower = running.headers(user="other", scope=f"read:session:{created['sessionId']}")
    async with running.http.get(running.url + kept["href"], headers=follower) as answer:
        assert answer.status == 200
        had = await answer.read()
    assert hashlib.sha256(had).digest() == hashlib.sha256(picture).digest()
    stranger = running.headers(user="other", scope="read:session:x")
    async with running.http.get(running.url + kept["href"], headers=stranger) as answer:
        assert answer.status == 404
