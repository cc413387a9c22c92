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
from daemon.core.uploads import Upload
from domains.session.images import MAX_IMAGES, MESSAGE_BYTES, WAITING_BYTES, Images, require_room
from domains.session.messages import Image


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
