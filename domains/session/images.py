"""Images of a message: in it as base64, or sent ahead as uploads and named by their ids."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, NotFound, TooLarge, Unavailable
from daemon.core.uploads import IMAGE_TYPES, Upload
from domains.session.commands import ImageContent
from domains.session.messages import Block, Image, Message, ToolResult

MAX_IMAGES = 20
"""Images of one message."""

MESSAGE_BYTES = 24 << 20
"""Bytes of base64 of all images of one message: agents send it to their model in one request."""


INLINE_BYTES = 64 << 10
"""Bytes of base64 up to which an event carries an image that is no upload."""

WAITING_BYTES = 64 << 20
"""Bytes of base64 of the images of messages that wait, beyond which no more are taken."""


class Uploads(Protocol):
    """What sessions need of the uploads."""

    def find(self, id_: str, caller: Caller) -> Upload:
        """Return an upload that a caller may read; else NotFound."""

    def href(self, id_: str) -> str:
        """Return its path over HTTP."""

    async def read(self, upload: Upload) -> bytes:
        """Read it whole."""

    async def share(self, upload: Upload, channel: str) -> None:
        """Let who may read a channel read it."""


class Images:
    """Makes what a client says of images what an agent is told."""

    def __init__(self, uploads: Uploads) -> None:
        """Find uploads here."""
        self._uploads = uploads

    async def resolved(self, images: Sequence[Image] | None, caller: Caller) -> list[Image]:
        """Return images with their data; BadRequest, NotFound or TooLarge where that cannot be."""
        found: list[Image] = []
        if len(images or ()) > MAX_IMAGES:
            raise BadRequest(f"a message has {MAX_IMAGES} images at most")
        for image in images or ():
            if image.upload_id is None:
                check_inline(image)
                found.append(msgspec.structs.replace(image, href=None))
            else:
                found.append(await self._uploaded(image, image.upload_id, caller))
            if sum(len(each.data) for each in found) > MESSAGE_BYTES:
                raise TooLarge(f"the images of a message have {MESSAGE_BYTES} bytes at most")
        return found

    async def share(self, images: Iterable[Image], caller: Caller, channel: str) -> None:
        """Let who follows a session read the uploads that were sent to it."""
        for image in images:
            if image.upload_id is not None:
                await self._uploads.share(self._uploads.find(image.upload_id, caller), channel)

    async def _uploaded(self, image: Image, id_: str, caller: Caller) -> Image:
        if image.data:
            raise BadRequest("an image has data or an uploadId, not both")
        upload = self._uploads.find(id_, caller)
        if upload.media_type not in IMAGE_TYPES:
            raise BadRequest(f"the upload {id_} is no image; allowed: {', '.join(IMAGE_TYPES)}")
        if upload.size * 4 // 3 > MESSAGE_BYTES:
            raise TooLarge(f"the images of a message have {MESSAGE_BYTES} bytes at most")
        data = base64.b64encode(await self._uploads.read(upload)).decode()
        return Image(
            media_type=upload.media_type, data=data, upload_id=id_, href=self._uploads.href(id_)
        )


def images_of(message: Message) -> list[Image]:
    """Return the images of a message, those in the results of tools included, in order."""
    found: list[Image] = []
    for block in message.content:
        if isinstance(block, Image):
            found.append(block)
        elif isinstance(block, ToolResult):
            found.extend(block.images)
    return found


def told(message: Message, href: Callable[[int], str]) -> Message:
    """Return a message as events have it; `href` gives where its image of a number can be had."""
    if not images_of(message):
        return message
    numbers = itertools.count()

    def placed(image: Image) -> Image:
        number = next(numbers)
        if not image.data:
            return image
        data = image.data if len(image.data) <= INLINE_BYTES else ""
        return msgspec.structs.replace(image, data=data, href=href(number))

    content: list[Block] = []
    for block in message.content:
        if isinstance(block, Image):
            content.append(placed(block))
        elif isinstance(block, ToolResult):
            images = [placed(each) for each in block.images]
            content.append(msgspec.structs.replace(block, images=images))
        else:
            content.append(block)
    return msgspec.structs.replace(message, content=content)


def content_of(message: Message | None, index: int) -> ImageContent:
    """Return an image of a message; NotFound where it has none with this number."""
    images = [] if message is None else images_of(message)
    try:
        image = images[index]
        readable = bool(base64.b64decode(image.data, validate=True))
    except (IndexError, ValueError):  # an agent may have said anything
        readable = False
    if not readable:
        raise NotFound("there is no such image; session.messages has the messages")
    return ImageContent(media_type=image.media_type, data=image.data)


def require_room(waiting: Iterable[Image]) -> None:
    """Raise Unavailable where the images of messages that wait are too large."""
    if sum(len(image.data) for image in waiting) > WAITING_BYTES:
        raise Unavailable("the images of messages that wait are too large; try again later")


def as_told(image: Image) -> Image:
    """Return an image as events have it: what was uploaded is read where it is kept."""
    return image if image.upload_id is None else msgspec.structs.replace(image, data="")


def check_inline(image: Image) -> None:
    """Raise BadRequest for what no model takes."""
    if image.media_type not in IMAGE_TYPES:
        known = ", ".join(IMAGE_TYPES)
        raise BadRequest(f"an image is one of {known}, not {image.media_type[:80]!r}")
    if not image.data:
        raise BadRequest("an image needs its data in base64, or the uploadId of POST /api/uploads")
    try:
        base64.b64decode(image.data, validate=True)
    except ValueError as error:
        raise BadRequest(f"an image's data is not base64: {error}") from None
